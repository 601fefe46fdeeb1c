"""The kernels of a decode step: judged in the interpreter, compiled for sm_90, and refusing what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.common.attention.decode_attention import AttentionShape, decode_attention
from models.common.attention.decode_attention import default_shape as default_attention_shape
from models.common.kernels.workspace import Workspace
from models.common.linear.gemv import GemvShape, default_shape, gemv, needs

SCRIPT = Path(__file__).with_name("decode_judge.py")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes_in_the_interpreter_and_tickets_return_to_zero(
    dtype: str, judge: Callable[..., Any]
) -> None:
    said = judge(SCRIPT, "interpret", dtype, interpret=True)
    assert said.pop("tickets") == 0
    assert {name: found["failed"] for name, found in said.items() if found["failed"]} == {}
    assert all(found["checks"] > 10 for found in said.values())


def test_every_kernel_compiles_for_sm_90_in_bfloat16(judge: Callable[..., Any]) -> None:
    built = judge(SCRIPT, "compile", "bfloat16", interpret=False)
    assert {label.split("/")[0] for label in built} == {"gemv", "gemv_swiglu", "decode_attention", "early"}


def test_real_shapes_start_at_least_two_programs_per_multiprocessor() -> None:
    for n, k in ((6144, 2560), (2560, 4096), (2560, 9728), (9728, 2560), (151936, 2560)):
        for m in (1, 2, 8, 32, 64):
            shape = default_shape(m, n, k, 2)
            assert -(-n // shape.block_n) * shape.split_k >= 2 * 132


def test_attention_blocks_divide_pages_and_short_capacities_are_spread() -> None:
    assert default_attention_shape(1, 8, 48, 48 * 10, 2).block_n == 16
    assert default_attention_shape(1, 8, 1024, 1024, 2).splits == 8
    assert default_attention_shape(1, 8, 32768, 32768, 2).splits == 16
    assert default_attention_shape(128, 8, 1024, 1024, 2).splits == 1


def test_split_sums_refuse_a_workspace_they_would_overrun() -> None:
    x, weight = torch.zeros(8, 512), torch.zeros(64, 512)
    shape = GemvShape(16, 64, 4, 2, split_k=2)
    floats, tickets = needs(8, 64, shape)
    with pytest.raises(ValueError, match="past their end"):
        gemv(x, weight, shape=shape, workspace=Workspace.allocate(floats - 1, tickets, x.device))
    with pytest.raises(ValueError, match="past their end"):
        gemv(x, weight, shape=shape, workspace=Workspace.allocate(floats, tickets - 1, x.device))


def test_what_a_kernel_would_compute_wrongly_is_refused() -> None:
    x, weight = torch.zeros(2, 64), torch.zeros(32, 64)
    with pytest.raises(ValueError, match="65 activation rows"):
        gemv(torch.zeros(65, 64), weight)
    with pytest.raises(ValueError, match="unit-stride"):
        gemv(torch.zeros(64, 2).t(), weight)
    with pytest.raises(ValueError, match="does not fit"):
        gemv(x.half(), weight)
    with pytest.raises(ValueError, match="not split"):
        gemv(x[:1], weight, shape=GemvShape(16, 64, 4, 2, split_k=2))
    with pytest.raises(ValueError, match="leave the rows"):
        gemv(x, weight, shape=GemvShape(16, 64, 4, 2, ahead=128))


def test_attention_refuses_blocks_across_pages_and_several_tokens() -> None:
    pages = torch.zeros(2, 1, 24, 128)
    ints = torch.ones(1, dtype=torch.int32)
    common = {"k_pages": pages, "v_pages": pages, "table": torch.zeros(1, 2), "starts": ints, "lengths": ints}
    with pytest.raises(ValueError, match="cross pages"):
        decode_attention(torch.zeros(1, 1, 4, 128), **common, scale=1.0, shape=AttentionShape(16, 4, 2, 1))
    with pytest.raises(ValueError, match="no causal mask"):
        decode_attention(torch.zeros(1, 2, 4, 128), **common, scale=1.0)
    with pytest.raises(ValueError, match="do not fit"):
        decode_attention(torch.zeros(1, 1, 17, 128), **common, scale=1.0)
