"""Router kernels: judged in the interpreter, the judge proven able to fail, compiled for sm_90, and refusing what they
cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.common.kernels import sigmoid_router, softmax_router
from models.common.routers import sigmoid_choice

SCRIPT = Path(__file__).with_name("router_judge.py")
NAMES = {"sigmoid_router", "softmax_router"}


def test_every_menu_entry_passes_in_float32_and_every_fault_is_seen(judge: Callable[..., Any]) -> None:
    said = judge(SCRIPT, "interpret", "float32", interpret=True)
    assert said == {"kernels": {name: [] for name in NAMES}, "survivors": [], "mutants": 9}


def test_every_menu_entry_passes_in_float16(judge: Callable[..., Any]) -> None:
    assert judge(SCRIPT, "interpret", "float16", interpret=True)["kernels"] == {name: [] for name in NAMES}


def test_both_compile_for_sm_90_in_bfloat16(judge: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge(SCRIPT, "compile", "bfloat16", interpret=False)} == NAMES


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
    with pytest.raises(ValueError, match="5 of 4"):
        softmax_router.route(x, weight, 5)
