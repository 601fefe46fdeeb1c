"""Device memory that kernels split over several programs leave their partial results in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Workspace:
    """Partial results and the tickets that find the last program to arrive.

    Every kernel leaves all tickets at zero, so that one workspace serves any number of kernels one after another on one
    stream, captured in a graph or not. Two streams need two.
    """

    partials: Tensor
    """[floats] float32, content without meaning between kernels."""
    tickets: Tensor
    """[tickets] int32, zero between kernels."""

    @classmethod
    def allocate(cls, floats: int, tickets: int, device: torch.device) -> Workspace:
        return cls(
            torch.empty(max(floats, 1), dtype=torch.float32, device=device),
            torch.zeros(max(tickets, 1), dtype=torch.int32, device=device),
        )

    def require(self, floats: int, tickets: int) -> None:
        """Raises ValueError when a launch would write past either buffer."""
        if floats > self.partials.numel() or tickets > self.tickets.numel():
            raise ValueError(
                f"this launch needs {floats} partial results and {tickets} tickets, the workspace has "
                f"{self.partials.numel()} and {self.tickets.numel()}: it would write past their end"
            )


def ample(inputs: Mapping[str, Any]) -> Workspace:
    """More than any case of a menu asks for, on the device of its tensors."""
    device = next(value.device for value in inputs.values() if isinstance(value, Tensor))
    return Workspace.allocate(2**20, 2**12, device)
