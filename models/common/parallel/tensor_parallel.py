"""Tensor parallelism: one model cut over the processes of torch.distributed's default group, a plan saying where.

A column-cut projection gives each rank some of its outputs; the row-cut one after it takes them as some of its inputs,
and the partial sums are added over the ranks: one all-reduce for attention and one for the feed-forward block
(Shoeybi et al., "Megatron-LM", 2019). Cutting comes before the weights, so that a rank never holds more than its part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from harness.errors import ConfigError, IndivisibleShares
from harness.spec.optimization import Optimization, Receipt, Target
from harness.spec.shard import Shard, sharded
from models.common.decoder.frame import Decoder
from models.common.decoder.swap import attach
from models.common.parallel.joins import GatheredColumn, RowParallel, SummedProduct, VocabularyEmbedding
from models.common.parallel.mutations import RANK_MUTANTS


@dataclass(frozen=True)
class Partition:
    """What a dimension consists of and may be cut between, such as 32 query heads."""

    name: str
    count: int

    def fits(self, world: int) -> bool:
        """Whether every rank gets as many as the others."""
        return self.count % world == 0

    def mine(self, rank: int, world: int) -> range:
        """The pieces of one rank."""
        each = self.count // world
        return range(rank * each, (rank + 1) * each)


class SharedPartition(Partition):
    """Pieces that several ranks may keep a copy of each, where there are fewer than ranks."""

    def fits(self, world: int) -> bool:
        return super().fits(world) or world % self.count == 0

    def mine(self, rank: int, world: int) -> range:
        if self.count >= world:
            return super().mine(rank, world)
        owner = rank * self.count // world
        return range(owner, owner + 1)


Join = Callable[[Any], nn.Module]
Model = TypeVar("Model", bound=Decoder)


@dataclass(frozen=True)
class Placement:
    """How a module is cut: for each of its parameters that is cut, along which dimension and into how many matrices
    packed one after another it falls, each cut by itself; and what stands in the module's place to join the ranks."""

    pieces: Partition
    cuts: Mapping[str, tuple[int, int]]
    """Parameter name -> (dimension, packed matrices)."""
    join: Join | None = None

    def shard(self, name: str, shape: torch.Size, rank: int, world: int) -> Shard:
        dim, packed = self.cuts[name]
        if shape[dim] % (packed * self.pieces.count):
            raise ConfigError(
                f"tensor_parallel: '{name}' {tuple(shape)} holds no {self.pieces.count} {self.pieces.name}"
            )
        mine = self.pieces.mine(rank, world)
        matrix = shape[dim] // packed
        width = matrix // self.pieces.count
        ranges = [slice(at + mine.start * width, at + mine.stop * width) for at in range(0, shape[dim], matrix)]
        return Shard(tuple(shape), dim, tuple(ranges))


@dataclass(frozen=True)
class Plan:
    """Module path, `*` standing for any index -> placement. What is not named is held whole by every rank."""

    kv_heads: Partition
    """What the cache of a rank holds."""
    table: Mapping[str, Placement] = field(default_factory=dict)

    def check(self, world: int) -> None:
        """IndivisibleShares unless every rank gets as many pieces of each kind as the others."""
        pieces = dict.fromkeys((self.kv_heads, *(place.pieces for place in self.table.values())))
        indivisible = [f"{each.count} {each.name}" for each in pieces if not each.fits(world)]
        if indivisible:
            raise IndivisibleShares(
                f"tensor_parallel: {' and '.join(indivisible)} cannot be divided evenly among {world} ranks"
            )

    def placement(self, path: str) -> Placement | None:
        return next((place for pattern, place in self.table.items() if fnmatchcase(path, pattern)), None)


def size(model: nn.Module, name: str, dim: int) -> int:
    """Of dimension `dim` of the parameter of that name."""
    return model.get_parameter(name).shape[dim]


def column(pieces: Partition) -> Placement:
    """Some output channels of a linear layer on each rank, its bias with them."""
    return Placement(pieces, {"weight": (0, 1), "bias": (0, 1)})


def row(pieces: Partition) -> Placement:
    """Some input channels of a linear layer on each rank; outputs are summed over the ranks, then the bias added."""
    return Placement(pieces, {"weight": (1, 1)}, SummedProduct)


def experts(pieces: Partition) -> Placement:
    """Some feed-forward channels of every expert on each rank, so that routing costs nothing and load is even:
    `gate_up_proj` [E, 2 I, H], gate rows first, and `down_proj` [E, H, I]; outputs are summed over the ranks."""
    return Placement(pieces, {"gate_up_proj": (1, 2), "down_proj": (2, 1)}, RowParallel)


def vocabulary(pieces: Partition) -> Placement:
    """Some rows of an embedding table on each rank; what they look up is summed, all but one being zero."""
    return Placement(pieces, {"weight": (0, 1)}, VocabularyEmbedding)


def gathered(pieces: Partition) -> Placement:
    """As column, the outputs of all ranks side by side at the end: for logits."""
    return Placement(pieces, {"weight": (0, 1), "bias": (0, 1)}, GatheredColumn)


def narrow(model: nn.Module, plan: Plan, target: Target) -> None:
    """Give every parameter of a model on the meta device its memory on the target, as much of it as this rank keeps.
    IndivisibleShares for pieces that the ranks cannot share, ConfigError for a pattern that fits no parameter."""
    plan.check(target.world)
    used: set[str] = set()
    made: dict[int, nn.Parameter] = {}
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        path, _, leaf = name.rpartition(".")
        place = plan.placement(path)
        used |= {pattern for pattern, each in plan.table.items() if each is place}
        if id(parameter) not in made:
            shard = Shard.whole(parameter.shape)
            if place is not None and leaf in place.cuts:
                shard = place.shard(leaf, parameter.shape, target.rank, target.world)
            kept = torch.empty(shard.kept_shape(), dtype=parameter.dtype, device=target.device)
            made[id(parameter)] = sharded(nn.Parameter(kept, requires_grad=False), shard)
        module = model.get_submodule(path)
        setattr(module, leaf, made[id(parameter)])
        if isinstance(module, nn.Linear) and leaf == "weight":
            module.out_features, module.in_features = module.weight.shape
    unused = set(plan.table) - used
    if unused:
        raise ConfigError(f"tensor_parallel: the plan's '{min(unused)}' fits no parameter: it would be held whole")
    _settle_buffers(model, target)


def _settle_buffers(model: nn.Module, target: Target) -> None:
    """Every rank holds all buffers whole: memory for those that a checkpoint holds, the others as they are."""
    stored = model.state_dict().keys()
    for path, module in model.named_modules():
        for leaf, buffer in list(module.named_buffers(recurse=False)):
            if f"{path}.{leaf}" in stored:
                module.register_buffer(leaf, torch.empty_like(buffer, device=target.device))
                continue
            if buffer.is_meta:
                raise ConfigError(f"tensor_parallel: buffer '{leaf}' of {type(module).__name__} lost its values")
            setattr(module, leaf, buffer.to(target.device))


def connect(model: nn.Module, plan: Plan) -> tuple[str, ...]:
    """Put the joins in place, once the weights are; returns the paths of all modules that are cut."""
    placed = [(path, place) for path, _ in model.named_modules() if (place := plan.placement(path))]
    for path, place in placed:
        if place.join is not None:
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, place.join(model.get_submodule(path)))
    return tuple(path for path, _ in placed)


def tensor_parallel(plan: Callable[[Model], Plan]) -> Optimization:
    """`plan` reads its numbers off the whole model. First on a menu: what packs weights must find them cut."""

    def shard(model: Model, target: Target) -> None:
        whole = plan(model)
        attach(model, "plan", whole)
        narrow(model, whole, target)
        kv_heads = len(whole.kv_heads.mine(target.rank, target.world))
        model.caches = replace(model.caches, kv_heads=kv_heads, device=target.device)
        model.cache_factory = model.caches.cumulative

    def apply(model: Model, target: Target) -> Receipt:
        note = f"rank {target.rank} of {target.world}, {dist.get_backend()}"
        return Receipt("tensor_parallel", connect(model, vars(model)["plan"]), (note,))

    return Optimization(
        name="tensor_parallel",
        summary="every layer cut over the ranks, two all-reduces a layer",
        numerics="reordered",
        apply=apply,
        shard=shard,
        conflicts=("compile",),
        needs=("ranks",),
        mutants=RANK_MUTANTS,
    )
