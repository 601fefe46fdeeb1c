"""Device memory that kernels split over several programs leave their partial results in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
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

    @classmethod
    def of(cls, given: Workspace | None, floats: int, tickets: int, device: torch.device) -> Workspace:
        """What a launch was given or shares with others, and one of its own otherwise. Raises as `require` does."""
        found = given or _shared.get() or cls.allocate(floats, tickets, device)
        found.require(floats, tickets)
        return found

    def require(self, floats: int, tickets: int) -> None:
        """Raises ValueError when a launch would write past either buffer."""
        if floats > self.partials.numel() or tickets > self.tickets.numel():
            raise ValueError(
                f"this launch needs {floats} partial results and {tickets} tickets, the workspace has "
                f"{self.partials.numel()} and {self.tickets.numel()}: it would write past their end"
            )


class Workspaces:
    """The workspaces that the layers of a model share, one per size; kept for as long as the model, because a captured
    graph holds their addresses."""

    def __init__(self) -> None:
        self.made: dict[tuple[int, int], Workspace] = {}

    def get(self, needed: tuple[int, int], device: torch.device) -> Workspace:
        """Return the one of `needed` (floats, tickets)."""
        if needed not in self.made:
            self.made[needed] = Workspace.allocate(*needed, device)
        return self.made[needed]


_shared: ContextVar[Workspace | None] = ContextVar("shared workspace", default=None)


@contextmanager
def shared(inputs: Mapping[str, Any]) -> Iterator[None]:
    """While open, launches that are given no workspace take one and the same, ample for any case of a menu, on the
    device of `inputs`."""
    device = next(value.device for value in inputs.values() if isinstance(value, Tensor))
    token = _shared.set(Workspace.allocate(2**20, 2**12, device))
    try:
        yield
    finally:
        _shared.reset(token)
