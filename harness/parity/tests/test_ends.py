"""Embedding, final norm and head are judged by themselves, also where the noise of the layers would hide them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.build import builder, registry
from harness.parity.parity_run import ParityRun
from harness.records.checks import Check
from harness.records.proof_size import ProofSize
from harness.spec.optimization import Target

CPU = Target(torch.device("cpu"), torch.bfloat16, "none")


@pytest.fixture(scope="module")
def run() -> ParityRun:
    spec = registry.load("qwen3_4b_instruct_2507")
    return ParityRun(builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), (), CPU), ProofSize(2, 24, 2))


class EightBits(nn.Module):
    """A head whose weights are rounded to eight bits in calls of `tokens` tokens a row."""

    def __init__(self, head: nn.Module, tokens: range) -> None:
        super().__init__()
        self.head, self.tokens = head, tokens
        scale = head.weight.abs().amax(1, keepdim=True) / 127
        self.rounded = (head.weight / scale).round() * scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.rounded) if x.shape[1] in self.tokens else self.head(x)


def swapped(path: str, made: Callable[[Any], nn.Module]) -> Callable[[Any], None]:
    return lambda model: setattr(model, path, made(getattr(model, path)))


class Scaled(nn.Module):
    def __init__(self, part: nn.Module, by: float) -> None:
        super().__init__()
        self.part, self.by = part, by

    def forward(self, *given: Any) -> Any:
        out = self.part(*given)
        return (out[0] * self.by, out[1]) if isinstance(out, tuple) else out * self.by


FAULTS = {
    "head in eight bits on one token a row": (swapped("lm_head", lambda head: EightBits(head, range(1, 2))), "head"),
    "head in eight bits on a prompt": (swapped("lm_head", lambda head: EightBits(head, range(2, 99))), "head"),
    "final norm half a percent too large": (swapped("norm", lambda norm: Scaled(norm, 1.005)), "head"),
    "embedding four thousandths too large": (swapped("embed", lambda embed: Scaled(embed, 1.004)), "embedding"),
}


def ends(run: ParityRun, plant: Callable[[Any], None] | None = None) -> list[Check]:
    parts = ("embed", "norm", "lm_head")
    kept = {name: getattr(run.model, name) for name in parts}
    if plant is not None:
        plant(run.model)
    try:
        return run._ends(run.oracle.prompt("target"))
    finally:
        for name, part in kept.items():
            setattr(run.model, name, part)


@torch.no_grad()
def test_a_right_build_passes_at_both_ends(run: ParityRun) -> None:
    checks = ends(run)
    assert [check.subject for check in checks] == ["embedding", *["final norm and head"] * 2]
    assert all(check.passed for check in checks)


@torch.no_grad()
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_one_end_is_refused_there(run: ParityRun, name: str) -> None:
    plant, place = FAULTS[name]
    broken = [check.subject for check in ends(run, plant) if not check.passed]
    assert broken
    assert all(subject.endswith(place) for subject in broken)
