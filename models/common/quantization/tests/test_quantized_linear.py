"""Which layers a choice of schemes rounds, and what it may not name."""

import pytest
import torch
from torch import nn

from harness.spec.optimization import Target
from models.common.kernels.workspace import Workspace
from models.common.linear.eager import PackedLinear, SplitQKV, linear
from models.common.quantization.quantized_linear import Choice, QuantizedLinear, QuantizedPacked, quantize
from models.common.quantization.schemes import INT4, INT8, Scheme

CPU = torch.device("cpu")
TARGET = Target(CPU, torch.float32, "none")


def model() -> nn.Module:
    drawn = torch.Generator().manual_seed(0)

    def layer() -> nn.Linear:
        made = linear(128, 128, False, torch.float32, CPU)
        made.weight.copy_(torch.randn(128, 128, generator=drawn))
        return made

    qkv = SplitQKV(layer(), layer(), layer(), 64)
    return nn.ModuleDict({"qkv": qkv, "o_proj": layer(), "eye": layer(), "norm": nn.LayerNorm(128)})


def test_only_what_is_named_is_rounded_each_in_its_scheme() -> None:
    built, choice = model(), Choice({"qkv.*_proj": INT4, "o_proj": INT8}, 16)
    names = [name for name, _ in built.named_parameters()]
    assert quantize(built, choice, TARGET) == ("qkv", "qkv.packed", "o_proj")
    assert (type(built["qkv"].packed), type(built["o_proj"])) == (QuantizedPacked, QuantizedLinear)
    assert (built["qkv"].packed.whole.scheme, built["o_proj"].scheme) == (INT4, INT8)
    assert type(built["eye"]) is nn.Linear
    assert [name for name in names if choice.of_parameter(name) is None] == ["eye.weight", "norm.weight", "norm.bias"]


def test_neighbors_that_keep_their_weights_are_packed_unrounded() -> None:
    built = model()
    quantize(built, Choice({"o_proj": INT8}, 16), TARGET)
    assert type(built["qkv"].packed) is PackedLinear


@pytest.mark.parametrize("scheme", [INT8, INT4])
def test_an_unrounded_product_has_its_bias_and_the_range_of_float32(scheme: Scheme) -> None:
    layer = linear(128, 8, True, torch.float16, CPU)
    nn.init.constant_(layer.weight, 120.0)
    nn.init.constant_(layer.bias, -3.0)
    held = QuantizedLinear(layer, scheme, 0, Workspace.allocate(0, 0, CPU))
    out = held(torch.full((2, 128), 64.0, dtype=torch.float16), rounded=False)
    torch.testing.assert_close(out, torch.full((2, 8), 120.0 * 64 * 128 - 3))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("norm", "'norm' is no linear layer"),
        ("qkv.q_proj", "the layers of 'qkv' are packed into one matrix"),
    ],
)
def test_what_the_build_cannot_round_as_the_reference_would_be_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(model(), Choice({pattern: INT8}, 16), TARGET)
