"""What a model may be changed by: named optimizations, where a build runs, and what an optimization tells of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.errors import UnknownName
from harness.spec.kernel import Kernel
from harness.spec.mutant import Mutant
from harness.spec.parameter import Parameter, Value, Values, find, own_values
from harness.spec.tuning import Tuning

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


Numerics = Literal["exact", "reordered", "near_lossless", "four_bit"]


KernelMode = Literal["compiled", "interpreted", "none"]


Capability = Literal["cache_layout", "prefix_cache", "captured_prompt", "captured_step", "rounded_weights", "ranks"]
"""What an optimization gives a build, as parity, timing and sign-off ask for it:

- `cache_layout`: `new_cache` makes another kind of cache. `apply` sets plain attributes of the model alone, so that it
  can be taken back.
- `prefix_cache`: the model has `prefixes`, a `harness.spec.runtime.PrefixCache`.
- `captured_prompt`: something of a prompt's forward pass is kept for prompts like it.
- `captured_step`: `decode` of the instance is another than its class's, which stays the plain step.
- `rounded_weights`: the model computes with rounded weights; so does the reference that it is held against.
- `ranks`: several processes hold the model together.
"""


@dataclass(frozen=True)
class Target:
    """Where a build runs. `kernels` says what a Triton launch means there: compiled for the GPU, interpreted on the
    CPU (right, never fast), or not available in this process."""

    device: torch.device
    dtype: torch.dtype
    kernels: KernelMode
    rank: int = 0
    """This process among `world` that run one model together."""
    world: int = 1


@dataclass(frozen=True)
class Receipt:
    """What an optimization changed: the dotted paths of the modules it replaced. Touching nothing is an error."""

    optimization: str
    touched: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Scheme(Protocol):
    """How a lossy optimization holds a matrix [N, K]."""

    @property
    def name(self) -> str: ...
    @property
    def mutants(self) -> tuple[Mutant, ...]:
        """Faults of this scheme: each takes it and returns a faulty one."""

    def rounded(self, weight: Tensor, /) -> Tensor:
        """What the changed build computes with, in the same dtype."""

    def bytes(self, n: int, k: int, /) -> int:
        """What the changed build holds."""

    def bound(self, weight: Tensor, /) -> Tensor:
        """[N, K] float32: how far each element may move, at most."""


Axis = Literal["rows", "keys"]
"""What a dispatch may depend on: the rows of a decode step, or the slots that the cache of a row has."""
Edges = Mapping[Axis, tuple[int, ...]]
"""Where another dispatch begins: the last value before. `{"rows": (1, 16)}` says that two rows are computed otherwise
than one, and 17 otherwise than 16."""

Rounding = Callable[[str], "Scheme | None"]
"""The name of a parameter in our build -> how the changed build holds it; None where it is left alone."""


@dataclass(frozen=True)
class Optimization:
    """A named change to a model's eager build.

    `apply` swaps modules on the instance it is given and returns the receipt; it must raise rather than do nothing. It
    takes every one of `parameters` as a keyword argument with the same default.
    """

    name: str
    summary: str
    numerics: Numerics
    apply: Callable[..., Receipt]
    """Takes what `ModelSpec.build` makes, the target, and one keyword argument for each parameter."""
    kernels: tuple[Kernel, ...] = ()
    requires: tuple[str, ...] = ()
    """At least one of these must stand before it in the same stack."""
    conflicts: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Capabilities of the machine: `cuda`, `clusters` (a GPU with thread block clusters), `triton` (compiled or
    interpreted), `c++`, `nvcc` (a compiler of CUDA C++), `ranks` (several devices, or several processes on a CPU)."""
    provides: frozenset[Capability] = frozenset()
    """`rounded_weights` and `ranks` are added where there is a `rounding` and a `shard`."""
    shard: Callable[[Any, Target], None] | None = None
    """For a build that several processes hold together: takes it on the meta device, before weights are read, and gives
    every parameter memory on the target for the part that this rank keeps. `apply` follows once they are read."""
    rounding: Rounding | None = None
    """For `near_lossless` and `four_bit`: the build is held against the reference with its weights so rounded."""
    mutants: tuple[Mutant, ...] = ()
    """Faults of a model that only this optimization can have."""
    tunings: Callable[[nn.Module, torch.dtype], Iterator[Tuning]] | None = None
    """For launches that can be cut otherwise: takes the eager build on the meta device, which is its to change, and
    tells what its decode steps launch, the largest share of a step first."""
    parameters: tuple[Parameter, ...] = ()
    """What `apply` can be told; a run sets one as `optimization.NAME.PARAMETER=VALUE`."""
    edges: Callable[..., Edges] | None = None
    """Takes one keyword argument for each parameter, as `apply` does. A proof judges the model on both sides of every
    edge that the timed size reaches; one at which the launches of `kernels` do not change is an error."""

    def checked(self, values: Mapping[str, object]) -> dict[str, Value]:
        """Return the values that differ from their defaults, in the order declared; raise UserError for one that is not
        declared or not allowed."""
        given = {name: find(self.name, name, self.parameters).check(self.name, value) for name, value in values.items()}
        return {p.name: given[p.name] for p in self.parameters if given.get(p.name, p.default) != p.default}

    def made_with(self, values: Values) -> Optimization:
        """Return the same optimization whose `apply` and `edges` use these values of its parameters."""
        told = self.checked(values)
        edges = None if self.edges is None else partial(self.edges, **told)
        return replace(self, apply=partial(self.apply, **told), edges=edges)

    def __post_init__(self) -> None:
        found: set[Capability] = {*self.provides}
        if self.rounding is not None:
            found.add("rounded_weights")
        if self.shard is not None:
            found.add("ranks")
        object.__setattr__(self, "provides", frozenset(found))


@dataclass(frozen=True)
class Menu:
    """The optimizations of a model and the order `full` stacks them in."""

    items: tuple[Optimization, ...]
    full: tuple[str, ...]

    def __getitem__(self, name: str) -> Optimization:
        return next(item for item in self.items if item.name == name)

    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.items)

    def made_with(self, values: Values) -> Menu:
        """Return the same menu made with `OPTIMIZATION.PARAMETER` -> value; raise UserError for what is not there."""
        unknown = {name.partition(".")[0] for name in values} - set(self.names())
        if unknown:
            raise UnknownName("optimization", min(unknown), self.names())
        return replace(self, items=tuple(item.made_with(own_values(item.name, values)) for item in self.items))

    def provides(self, stack: Iterable[str]) -> frozenset[Capability]:
        """Collect what the optimizations of a stack provide."""
        return frozenset(capability for name in stack for capability in self[name].provides)

    def providing(self, capability: Capability) -> tuple[Optimization, ...]:
        """List the optimizations that provide it, in the menu's order."""
        return tuple(item for item in self.items if capability in item.provides)
