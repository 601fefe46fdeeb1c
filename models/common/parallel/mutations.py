"""Faults of a model that several ranks hold together: what is summed, gathered and looked up, and whose share it is.

Every rank plants the same fault and goes on exchanging as often as the others, or they would wait for it for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.spec.mutant import Mutant
from models.common.decoder.plant import replaced
from models.common.decoder.swap import attach
from models.common.parallel.joins import GatheredColumn, RowParallel, VocabularyEmbedding

Join = Callable[..., Tensor]


def _joins(kind: type[nn.Module], make: Callable[[Any], Join | None], name: str, family: str) -> Mutant:
    """`make(join)` gives the forward that takes its place; None where this join has no place for the fault."""

    def plant(model: nn.Module) -> tuple[str, ...]:
        touched = []
        for path, module in model.named_modules():
            if isinstance(module, kind) and (faulty := make(module)) is not None:
                module.forward = faulty
                touched.append(path)
        return tuple(touched)

    return Mutant(name, family, plant)


def _sum(reduce: Callable[[Tensor], Tensor]) -> Callable[[Any], Join]:
    """A join that adds the ranks' parts by `reduce`, and the bias after it."""

    def make(join: Any) -> Join:
        def faulty(*inputs: Tensor) -> Tensor:
            out = reduce(join.parts(*inputs).contiguous())
            return (out if join.bias is None else out + join.bias).to(inputs[0].dtype)

        return faulty

    return make


def _reduced(x: Tensor, how: Any = dist.ReduceOp.SUM) -> Tensor:
    dist.all_reduce(x, how)
    return x


def _first_ranks(x: Tensor) -> Tensor:
    dist.broadcast(x, 0)
    return x


def _without_the_last(x: Tensor) -> Tensor:
    return _reduced(torch.zeros_like(x) if dist.get_rank() == dist.get_world_size() - 1 else x)


def _read_too_early(x: Tensor) -> Tensor:
    """The first rank goes on with its own part; the others wait."""
    early, whole = x.clone(), _reduced(x)
    return early if dist.get_rank() == 0 else whole


def _bias_of_every_rank(join: Any) -> Join | None:
    if join.bias is None:
        return None
    return lambda *inputs: _reduced(join.parts(*inputs).contiguous() + join.bias).to(inputs[0].dtype)


def _stale(join: Any) -> Join:
    """The sum of the last call, where its shape is the same."""
    before: list[Tensor] = []
    right = join.forward

    def faulty(*inputs: Tensor) -> Tensor:
        out: Tensor = right(*inputs)
        old = before.pop() if before else out
        before.append(out.clone())
        return old if old.shape == out.shape else out

    return faulty


def _gathered(order: Callable[[list[Tensor]], list[Tensor]]) -> Callable[[Any], Join]:
    def make(join: Any) -> Join:
        def faulty(x: Tensor) -> Tensor:
            part = join.part(x).contiguous()
            parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, part)
            return torch.cat(order(parts), dim=-1)

        return faulty

    return make


def _looked_up(off: int, clear: bool, add: bool) -> Callable[[Any], Join]:
    def make(join: Any) -> Join:
        def faulty(tokens: Tensor) -> Tensor:
            local = tokens - join.first - off
            absent = (local < 0) | (local >= join.part.weight.shape[0])
            out = join.part(local.masked_fill(absent, 0))
            if clear:
                out = out.masked_fill(absent.unsqueeze(-1), 0)
            return _reduced(out) if add else out

        return faulty

    return make


def _share_of_the_next(model: nn.Module) -> tuple[str, ...]:
    """Every row-cut projection has the channels of the rank after it."""
    touched = []
    for path, module in model.named_modules():
        if isinstance(module, RowParallel) and isinstance(module.partial, nn.Linear):
            mine = module.partial.weight.contiguous()
            shares = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
            dist.all_gather(shares, mine)
            replaced(module.partial, "weight", shares[(dist.get_rank() + 1) % len(shares)])
            touched.append(path)
    return tuple(touched)


def _shared_head_of_the_next(model: Any) -> tuple[str, ...]:
    """Where there are fewer key-value heads than ranks, each rank has the head that the next ones share."""
    heads, world = model.plan.kv_heads, dist.get_world_size()
    touched = []
    for path, module in model.named_modules() if heads.count < world else ():
        place = model.plan.placement(path)
        if place is None or place.pieces != heads or not isinstance(module, nn.Linear):
            continue
        for leaf in ("weight", "bias"):
            if (mine := getattr(module, leaf)) is not None:
                shares = [torch.empty_like(mine) for _ in range(world)]
                dist.all_gather(shares, mine.contiguous())
                replaced(module, leaf, shares[(dist.get_rank() + world // heads.count) % world])
        touched.append(path)
    return tuple(touched)


def _last_alone(model: Any) -> tuple[str, ...]:
    """The last layer's attention is not summed."""
    path = f"layers.{len(model.layers) - 1}.attention.o_proj"
    join = model.get_submodule(path)
    if not isinstance(join, RowParallel):
        return ()
    attach(join, "forward", _sum(lambda x: x)(join))
    return (path,)


RANK_MUTANTS: tuple[Mutant, ...] = (
    _joins(RowParallel, _sum(lambda x: x), "ranks: parts not summed", "collective"),
    _joins(RowParallel, _sum(lambda x: _reduced(x) / dist.get_world_size()), "ranks: mean for the sum", "collective"),
    _joins(RowParallel, _sum(lambda x: _reduced(_reduced(x))), "ranks: summed twice", "collective"),
    _joins(RowParallel, _sum(lambda x: _reduced(x, dist.ReduceOp.MAX)), "ranks: largest for the sum", "collective"),
    _joins(RowParallel, _sum(_first_ranks), "ranks: the first one's part for the sum", "collective"),
    _joins(RowParallel, _sum(_without_the_last), "ranks: the last one adds nothing", "collective"),
    _joins(RowParallel, _sum(_read_too_early), "ranks: the first one reads before the sum is there", "race"),
    _joins(RowParallel, _sum(lambda x: _reduced(x.bfloat16()).to(x.dtype)), "ranks: summed in bfloat16", "downgrade"),
    _joins(RowParallel, _bias_of_every_rank, "ranks: each one adds the bias", "bias"),
    _joins(RowParallel, _stale, "ranks: sum of the last call", "stale"),
    Mutant("ranks: last layer's attention not summed", "collective", _last_alone),
    Mutant("ranks: each has the next one's channels", "shares", _share_of_the_next),
    Mutant("ranks: a shared key-value head is the next one", "shares", _shared_head_of_the_next),
    _joins(GatheredColumn, _gathered(lambda parts: parts[::-1]), "ranks: logits in the wrong order", "shares"),
    _joins(
        GatheredColumn, _gathered(lambda parts: parts[:1] * len(parts)), "ranks: the first one's logits twice", "shares"
    ),
    _joins(VocabularyEmbedding, _looked_up(0, clear=False, add=True), "ranks: absent tokens not cleared", "mask"),
    _joins(VocabularyEmbedding, _looked_up(0, clear=True, add=False), "ranks: embedding not summed", "collective"),
    _joins(VocabularyEmbedding, _looked_up(1, clear=True, add=True), "ranks: embedding of the row before", "index"),
)
