"""What rounded weights cost a checkpoint, asked of every model that rounds: the second question beside parity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.build import builder, registry
from models.tests.weight_only import CPU, judged, tiny


@pytest.mark.parametrize("name", registry.names())
def test_a_checkpoints_loss_is_judged(name: str, tmp_path: Path) -> None:
    spec = registry.load(name)
    builder.reference(spec, tiny(spec), torch.bfloat16, CPU).save_pretrained(tmp_path)
    parity = judged(spec, "linear_int8", builder.Source.of(spec, "full", seed=0, weights=str(tmp_path)))
    loss = [check for check in parity.checks if check.subject == "loss of linear_int8"]
    assert [(check.rule, check.limit) for check in loss] == [("mean KL", 1e-3), ("top-1", 0.01)]
    assert all(0 < check.error < 1 for check in loss)
    assert parity.not_judged == ()
    assert {check.subject for check in parity.failures()} <= {"loss of linear_int8"}
