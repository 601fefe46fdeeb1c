"""Programmatic dependent launch: a kernel is scheduled while the one before it drains, and waits on the device before
it touches what that one wrote. Each kernel launched so also lets the next one start, and every reader of its outputs
must wait in turn; a kernel launched without it waits by itself."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from models.common.kernels.arithmetic import interpreted

HOPPER = (9, 0)


@cache
def offers(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= HOPPER


def early_start(x: Tensor) -> dict[str, Any]:
    """The launch arguments of a Triton kernel with a constexpr `PDL`: an early start where x's device has it."""
    if interpreted() or not offers(x.device):
        return {"PDL": False}
    return {"PDL": True, "launch_pdl": True}
