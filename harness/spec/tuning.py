"""What a launch can be cut like: how an optimization tells `python -m harness tune` what to measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.spec.kernel import Kernel, OpCase

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Launch = Mapping[str, Any]
"""The whole numbers and booleans of one launch, by the names that the kernel's launch shape gives them."""


@dataclass(frozen=True)
class Tuning:
    """One class of sizes that a model's decode steps launch a kernel with."""

    kernel: Kernel
    """As it is launched by default."""
    sizes: Mapping[str, int | tuple[int, int]]
    """Name of a size -> the one, or the least and the most, that the class covers."""
    case: Callable[[torch.dtype, torch.device, torch.Generator], OpCase]
    """Make the inputs that stand for the class."""
    launches: tuple[Launch, ...]
    """The candidates, each once."""
    cut: Callable[[Launch], Callable[..., Mapping[str, Tensor]]]
    """Return the kernel's launch, cut so. It raises ValueError where the numbers do not fit the inputs."""
    refined: Callable[[Launch], tuple[Launch, ...]] = lambda launch: ()
    """Return the variants worth a try of a candidate that was among the fastest."""

    def label(self) -> str:
        """Return the class in words: `gemv: rows 1, outputs 6144`."""
        return f"{self.kernel.name}: {', '.join(f'{name} {_span(size)}' for name, size in self.sizes.items())}"


def _span(size: int | tuple[int, int]) -> str:
    return f"{size[0]} to {size[1]}" if isinstance(size, tuple) else str(size)
