"""The fused gate beside the eager one, on the halves of one projection."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from models.common.mlp.eager import Gate
from models.common.mlp.fused import FusedGate
from models.tests.module_judge import error


def comparisons() -> Iterator[tuple[str, float]]:
    gate, up = torch.randn(2, 5, 2 * 96).split(96, dim=-1)
    yield "gate", error(FusedGate()(gate, up), Gate()(gate, up))
