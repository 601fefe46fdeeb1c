"""What one model adds to an optimization that all models share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from harness.spec.kernel import Kernel
from models.common.decoder.swap import swap

Swaps = Mapping[type[Any], Callable[[Any], nn.Module]]
"""The type of a module -> what makes its replacement from it."""


@dataclass(frozen=True)
class Extension:
    """More modules to swap, the kernels that their replacements launch, and what a summary says of them."""

    swaps: Swaps = field(default_factory=dict)
    kernels: tuple[Kernel, ...] = ()
    summary: str = ""

    def describe(self, shared: str) -> str:
        """Return the summary of the shared optimization and of this."""
        return f"{shared}; {self.summary}" if self.summary else shared


NOTHING = Extension()


def swap_all(model: nn.Module, *swaps: Swaps) -> tuple[str, ...]:
    """Replace every module whose type is a key; return the dotted paths replaced."""
    return tuple(path for each in swaps for kind, make in each.items() for path in swap(model, kind, make))
