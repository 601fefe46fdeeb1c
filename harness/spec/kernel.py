"""A fast function beside its eager twin, with the inputs that it is judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from harness.spec.mutant import Mutant

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Cost:
    """The least work of one call: device memory traffic in bytes (each input read once, each output written once)
    and floating-point operations."""

    bytes: int
    flops: int


@dataclass(frozen=True)
class OpCase:
    """One entry of a kernel's input cases: keyword arguments for both the kernel and its eager twin."""

    name: str
    inputs: Mapping[str, Any]


class OpCases(Protocol):
    """Yields input cases, smallest first. `generator` makes them reproducible and lives on `device`."""

    def __call__(self, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]: ...


@dataclass(frozen=True)
class Compilation:
    """One ahead-of-time compilation of a Triton function: argument types by name (`"*bf16"`, `"i32"`, `"fp32"`) and
    the values of its constexpr arguments."""

    function: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 3


@dataclass(frozen=True)
class Kernel:
    """A fast function beside its eager twin. Both take the same keyword arguments and return a mapping from output
    name to tensor; an argument listed in `mutates` is written in place and returned under its own name."""

    name: str
    launch: Callable[..., Mapping[str, Tensor]]
    eager: Callable[..., Mapping[str, Tensor]]
    cases: OpCases
    cost: Callable[..., Cost]
    compilations: Callable[[torch.dtype], Sequence[Compilation]]
    mutates: tuple[str, ...] = ()
    bitwise_outputs: tuple[str, ...] = ()
    """Outputs that only move bits: judged bit for bit."""
    bench: Callable[[torch.dtype, torch.device, torch.Generator], Iterator[OpCase]] | None = None
    """Real shapes to time on a device; None when the kernel has no speed of its own."""
    mutants: tuple[Mutant, ...] = ()
    """Faults of this kind of kernel, beside those that are planted in every kernel."""
    dtypes: tuple[torch.dtype, ...] | None = None
    """Element types that it computes; None is all of them."""
    batch_invariant: tuple[str, ...] = ()
    """Inputs whose first axis is the batch, of a kernel that gives a row the same bits whatever rows stand beside it;
    none where it promises nothing. Judged on every new output whose first axis is as long."""
    inapplicable: Mapping[str, str] = field(default_factory=dict)
    """Items of the fixed menu (`harness.parity.kernels.fixed_menu.ITEMS`) that its contract does not admit, each
    with the reason."""
    absolute: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """Inputs of a canceling case -> those to change so that the twin adds up the absolute values of what it added up
    before; None of a kernel whose answers are no sums. Then the answers of these cases are held to an error budget
    instead of the twin's own error (docs/method.md 1.2)."""
    shared_workspace: Callable[[Mapping[str, Any]], AbstractContextManager[None]] | None = None
    """Inputs -> while open, launches leave their partial results in one place, as those of one model do; None where a
    launch leaves nothing behind."""
    int64_offset_cases: OpCases | None = None
    """Cases whose offsets pass 2^31 elements, which only a device has the memory for."""
    multi_rank: Callable[[torch.device], Kernel] | None = None
    """Of a kernel that several ranks launch at once: the same as all of them do, with real sizes to time and the
    library's way for its twin. Every rank asks for it, then for each launch, in the same order."""
    launches: Callable[[], int] | None = None
    """How often this process has launched it, for a kernel that is not a Triton function and cannot be watched."""

    def computes(self, dtype: torch.dtype) -> bool:
        return self.dtypes is None or dtype in self.dtypes
