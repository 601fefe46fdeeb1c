"""The sigmoid router: judged in the interpreter, compiled for sm_90, and refusing what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.glm_4_7.kernels import sigmoid_router
from models.glm_4_7.kernels.sigmoid_router_cases import SIGMOID_ROUTER
from models.glm_4_7.router import sigmoid_choice

KERNEL = "models.glm_4_7.kernels.sigmoid_router_cases:SIGMOID_ROUTER"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes(dtype: str, judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", dtype, KERNEL) == {SIGMOID_ROUTER.name: []}


def test_it_compiles_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge_kernels("compile", "bfloat16", KERNEL)} == {SIGMOID_ROUTER.name}


def test_no_rounding_exchanges_experts_on_the_timed_shapes() -> None:
    assert SIGMOID_ROUTER.bench
    for case in SIGMOID_ROUTER.bench(torch.bfloat16, torch.device("cpu"), torch.Generator().manual_seed(0)):
        upcast = {name: case.inputs[name].float() for name in ("x", "weight")}
        exact = SIGMOID_ROUTER.eager(**{**case.inputs, **upcast})["ids"]
        assert torch.equal(SIGMOID_ROUTER.eager(**case.inputs)["ids"], exact), case.name


def test_the_correction_chooses_and_does_not_weigh() -> None:
    weight, correction = torch.tensor([[2.0], [1.0], [0.0]]), torch.tensor([0.0, 0.0, 1.0])
    done = sigmoid_choice(torch.ones(1, 1), weight, correction, chosen=2, scale=2.5)
    chosen = torch.tensor([0.0, 2.0]).sigmoid()
    assert done["ids"].tolist() == [[2, 0]]
    assert torch.allclose(done["weights"], 2.5 * chosen / chosen.sum())


def test_a_rounded_correction_and_strided_rows_are_refused() -> None:
    x, weight = torch.zeros(2, 8), torch.zeros(4, 8)
    with pytest.raises(ValueError, match="would choose other experts"):
        sigmoid_router.route(x, weight, torch.zeros(4, dtype=torch.bfloat16), 2, 1.0)
    with pytest.raises(ValueError, match="unit-stride"):
        sigmoid_router.route(torch.zeros(8, 2).t(), weight, torch.zeros(4), 2, 1.0)
