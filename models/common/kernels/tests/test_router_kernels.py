"""Router kernels: judged in the interpreter, compiled for sm_90, and refusing what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.spec.kernel import Kernel
from models.common.kernels import sigmoid_router, softmax_router
from models.common.kernels.sigmoid_router_cases import SIGMOID_ROUTER
from models.common.kernels.softmax_router_cases import SOFTMAX_ROUTER
from models.common.routers import sigmoid_choice

SCRIPT = Path(__file__).with_name("router_judge.py")
NAMES = {"sigmoid_router", "softmax_router"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes(dtype: str, judge: Callable[..., Any]) -> None:
    assert judge(SCRIPT, "interpret", dtype, interpret=True) == {name: [] for name in NAMES}


def test_both_compile_for_sm_90_in_bfloat16(judge: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge(SCRIPT, "compile", "bfloat16", interpret=False)} == NAMES


@pytest.mark.parametrize("kernel", [SIGMOID_ROUTER, SOFTMAX_ROUTER], ids=lambda kernel: kernel.name)
def test_no_rounding_exchanges_experts_on_the_timed_shapes(kernel: Kernel) -> None:
    assert kernel.bench
    for case in kernel.bench(torch.bfloat16, torch.device("cpu"), torch.Generator().manual_seed(0)):
        wide = {name: case.inputs[name].float() for name in ("x", "weight")}
        exact = kernel.twin(**{**case.inputs, **wide})["ids"]
        assert torch.equal(kernel.twin(**case.inputs)["ids"], exact), case.name


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
