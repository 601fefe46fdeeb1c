"""The decode step and its feed-forward blocks, each against the eager build, on this machine's own device and the tiny
size.

python -m pytest models/glm_4_7/benchmarks --benchmark-enable
"""

import pytest
import torch

from harness.build import builder
from harness.spec.optimization import Target
from models.glm_4_7 import SPEC
from models.tests.decode_step import repeated

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TARGET = Target(DEVICE, torch.float32, "compiled" if torch.cuda.is_available() else "none")
NATIVE = [(), ("kv_cache",), ("kv_cache", "linear"), ("kv_cache_paged",)]
KERNELS = [("experts",), ("kv_cache", "linear", "rotary", "attention", "experts", "fused_layers")]
STACKS = NATIVE + (KERNELS if TARGET.kernels == "compiled" else [])


@pytest.fixture(scope="module")
def reference() -> torch.nn.Module:
    return builder.reference(SPEC, builder.Source.of(SPEC, "tiny", 0, None), TARGET.dtype, DEVICE)


def made(reference: torch.nn.Module, stack: tuple[str, ...]) -> torch.nn.Module:
    return builder.candidate(
        builder.BuildConfig(SPEC, builder.Source.of(SPEC, "tiny", 0, None), stack, TARGET), reference
    )[0]


@pytest.mark.parametrize("stack", STACKS, ids="+".join)
@torch.no_grad()
def test_decode_step(judged, reference: torch.nn.Module, stack: tuple[str, ...]) -> None:
    judged(repeated(made(reference, stack), DEVICE), repeated(made(reference, ()), DEVICE))


@pytest.mark.parametrize("layer", [0, 1], ids=["dense", "experts"])
@torch.no_grad()
def test_feed_forward_block(judged, reference: torch.nn.Module, layer: int) -> None:
    x = torch.randn(2, 1, 320, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    packed, split = (made(reference, stack).layers[layer].mlp for stack in (("linear",), ()))
    judged(lambda: packed(x), lambda: split(x))
