"""From which layer on a model that runs freely errs, whatever its error is."""

from __future__ import annotations

import pytest
import torch

from harness.build import builder, registry
from harness.parity.parity_run import ParityRun
from harness.records.proof_size import ProofSize
from harness.spec.optimization import Target

TARGET = Target(torch.device("cpu"), torch.float16, "none")


@pytest.fixture
def run() -> ParityRun:
    spec = registry.load("qwen3_4b_instruct_2507")
    return ParityRun(
        builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), (), TARGET), ProofSize(2, 16, 2)
    )


def test_a_right_build_does_not_drift(run: ParityRun) -> None:
    assert run.drift() is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3.0])
def test_the_layer_is_named_from_which_it_errs(run: ParityRun, value: float) -> None:
    down = run.model.layers[1].mlp.down_proj
    weight = down.weight.clone()
    weight[0, 0] = value
    # A parameter of its own: the reference reads the memory of the old one.
    down.weight = torch.nn.Parameter(weight, requires_grad=False)
    found = run.drift()
    assert found is not None
    assert found.layer == 1
    assert found.ratio > 1.25
