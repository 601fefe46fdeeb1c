"""The fused norm beside the eager one, on the same inputs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from models.common.norms.eager import AddRMSNorm
from models.common.norms.fused import FusedAddRMSNorm
from models.tests.module_judge import error


def comparisons() -> Iterator[tuple[str, float]]:
    """With and without an addition, and on rows that are no whole tensor."""
    eager = AddRMSNorm(320, 1e-6, torch.float32, torch.device("cpu"))
    nn.init.normal_(eager.weight, 1.0, 0.1)
    fused = FusedAddRMSNorm(eager)
    delta, residual = torch.randn(2, 5, 320), torch.randn(2, 5, 320)
    last = (slice(None), slice(-2, None))
    for name, inputs in {
        "norm": (delta, residual),
        "first norm": (None, residual),
        "norm of the last tokens": (delta[last], residual[last]),
    }.items():
        for part, ours, theirs in zip(("normed", "residual"), fused(*inputs), eager(*inputs), strict=True):
            yield f"{name} {part}", error(ours, theirs)
