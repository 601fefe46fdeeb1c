"""Fused modules do what the eager ones do, on every cache layout, padded or not, from the prompt to a rewound cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.common.attention.eager import NormRotateWrite
from models.common.kernels.workspace import Workspaces
from models.common.norms.eager import AddRMSNorm, RMSNorm
from models.common.norms.fused import FusedAddRMSNorm
from models.common.rotary.fused import FusedRotateWrite

CPU = torch.device("cpu")
NOISE = 2e-6


@pytest.fixture(scope="module")
def errors(judge: Callable[..., Any]) -> dict[str, float]:
    return judge(Path(__file__).with_name("fused_judge.py"), interpret=True)


@pytest.mark.parametrize("part", ["norm", "first norm", "norm of the last tokens", "gate"])
def test_elementwise_modules_agree_with_the_eager_ones(errors: dict[str, float], part: str) -> None:
    found = {name: error for name, error in errors.items() if name.startswith(part)}
    assert found
    assert max(found.values()) < NOISE
    assert all(error == 0 for name, error in found.items() if name.endswith("residual"))


@pytest.mark.parametrize("layout", ["growing 128", "static 128", "paged 128", "paged 64"])
@pytest.mark.parametrize("rows", ["full", "padded"])
def test_attention_agrees_call_after_call(errors: dict[str, float], layout: str, rows: str) -> None:
    found = {name: error for name, error in errors.items() if name.startswith(f"{layout} {rows}")}
    assert len(found) == 7
    assert {name: error for name, error in found.items() if error > NOISE} == {}
    assert found[f"{layout} {rows} values"] == 0


def test_parameters_are_shared_under_their_names() -> None:
    eager = AddRMSNorm(8, 1e-5, torch.float32, CPU)
    fused = FusedAddRMSNorm(eager)
    assert fused.weight is eager.weight
    assert fused.eps == 1e-5
    assert [name for name, _ in fused.named_parameters()] == [name for name, _ in eager.named_parameters()]


def test_a_norm_is_not_lost_to_the_kernel_without_one() -> None:
    norm = RMSNorm(8, 1e-6, torch.float32, CPU)
    with pytest.raises(ValueError, match="its norms would be lost"):
        FusedRotateWrite(NormRotateWrite(torch.nn.Identity(), norm))


def test_a_workspace_keeps_its_address_because_a_graph_holds_it() -> None:
    workspaces = Workspaces()
    small = workspaces.get((64, 2), CPU)
    assert workspaces.get((128, 2), CPU) is not small
    assert workspaces.get((64, 2), CPU) is small
