"""The eager mechanisms are Hugging Face's own functions, bit for bit."""

import pytest
import torch
from transformers import Qwen3Config
from transformers.models.qwen3 import modeling_qwen3 as hf

from models.common.attention import Attend
from models.common.kv_cache import GrowingCache
from models.common.mlp import swiglu
from models.common.norms import AddRMSNorm, add_norm, rms_norm
from models.common.rotary import RotaryTable, rotate

CPU = torch.device("cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def draw(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(dtype)


@DTYPES
@torch.no_grad()
def test_rms_norm(dtype: torch.dtype) -> None:
    x, weight = draw(5, 320, dtype=dtype), draw(320, dtype=dtype)
    theirs = hf.Qwen3RMSNorm(320, eps=1e-6).to(dtype)
    theirs.weight.copy_(weight)
    assert torch.equal(rms_norm(x, weight, 1e-6), theirs(x))


@DTYPES
def test_add_norm_is_the_addition_and_then_the_norm(dtype: torch.dtype) -> None:
    delta, residual, weight = draw(5, 320, dtype=dtype), draw(2, 5, 320, dtype=dtype)[0], draw(320, dtype=dtype)
    done = add_norm(delta, residual, weight, 1e-6)
    assert torch.equal(done["residual"], residual + delta)
    assert torch.equal(done["normed"], rms_norm(residual + delta, weight, 1e-6))


def test_the_first_norm_adds_nothing() -> None:
    norm = AddRMSNorm(8, 1e-6, torch.float32, CPU)
    norm.weight.data.fill_(1)
    x = draw(3, 8, dtype=torch.float32)
    normed, residual = norm(None, x)
    assert residual is x
    assert torch.equal(normed, rms_norm(x, norm.weight, 1e-6))


@DTYPES
def test_rotary(dtype: torch.dtype) -> None:
    config = Qwen3Config(head_dim=128, rope_parameters={"rope_type": "default", "rope_theta": 5e6})
    q, k = draw(2, 7, 8, 128, dtype=dtype), draw(2, 7, 2, 128, dtype=dtype)
    positions = torch.arange(100, 107).expand(2, -1)
    theirs = hf.Qwen3RotaryEmbedding(config)(q, positions)
    cos, sin = RotaryTable(5e6, 128, dtype, CPU)(positions)
    assert torch.equal(cos, theirs[0])
    assert torch.equal(sin, theirs[1])
    turned = hf.apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), cos, sin)
    assert torch.equal(rotate(q, cos, sin), turned[0].transpose(1, 2))
    assert torch.equal(rotate(k, cos, sin), turned[1].transpose(1, 2))


def test_half_width_rotary_leaves_the_other_half_alone() -> None:
    x = draw(1, 3, 2, 128, dtype=torch.float32)
    cos, sin = RotaryTable(1e6, 64, torch.float32, CPU)(torch.arange(1, 4).unsqueeze(0))
    turned = rotate(x, cos, sin)
    assert torch.equal(turned[..., 64:], x[..., 64:])
    assert not torch.equal(turned[..., :64], x[..., :64])


@DTYPES
def test_swiglu(dtype: torch.dtype) -> None:
    gate, up = draw(4, 608, dtype=dtype), draw(2, 4, 608, dtype=dtype)[1]
    mlp = hf.Qwen3MLP(Qwen3Config(hidden_size=8, intermediate_size=8))
    assert torch.equal(swiglu(gate, up)["out"], mlp.act_fn(gate) * up)


def test_attention_agrees_with_the_plain_matrix_form() -> None:
    q, k, v = (draw(2, 9, heads, 128, dtype=torch.float32) for heads in (8, 2, 2))
    cache = GrowingCache(1, 2, 128, 2, torch.float32, CPU)
    slots = cache.extend(9)
    cache.layers[0].write(k, v, slots)
    causal = torch.full((9, 9), float("-inf")).triu(1).expand(2, 1, 9, 9)
    module = type("Module", (torch.nn.Module,), {"num_key_value_groups": 4})()
    theirs, _ = hf.eager_attention_forward(
        module.eval(), q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), causal, 128**-0.5
    )
    assert torch.allclose(Attend(128**-0.5)(q, cache.layers[0], slots), theirs, atol=1e-6)
