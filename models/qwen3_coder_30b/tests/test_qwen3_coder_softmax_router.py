"""The softmax router: judged in the interpreter, compiled for sm_90, and refusing what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.qwen3_coder_30b.kernels import softmax_router
from models.qwen3_coder_30b.kernels.softmax_router_cases import SOFTMAX_ROUTER

KERNEL = "models.qwen3_coder_30b.kernels.softmax_router_cases:SOFTMAX_ROUTER"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes(dtype: str, judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", dtype, KERNEL) == {SOFTMAX_ROUTER.name: []}


def test_it_compiles_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge_kernels("compile", "bfloat16", KERNEL)} == {SOFTMAX_ROUTER.name}


def test_no_rounding_exchanges_experts_on_the_timed_shapes() -> None:
    assert SOFTMAX_ROUTER.bench
    for case in SOFTMAX_ROUTER.bench(torch.bfloat16, torch.device("cpu"), torch.Generator().manual_seed(0)):
        upcast = {name: case.inputs[name].float() for name in ("x", "weight")}
        exact = SOFTMAX_ROUTER.eager(**{**case.inputs, **upcast})["ids"]
        assert torch.equal(SOFTMAX_ROUTER.eager(**case.inputs)["ids"], exact), case.name


def test_more_experts_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        softmax_router.route(torch.zeros(2, 8), torch.zeros(4, 8), 5)
