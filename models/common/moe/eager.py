"""A bank of gated feed-forward blocks of which every token visits a few, its choice and their weights given."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.spec.model import Workload
from models.common.mlp.eager import Gate, swiglu


@dataclass(frozen=True)
class Groups:
    """The (token, slot) pairs of one call, sorted by expert."""

    order: Tensor
    """[N k] int64: pair `token * k + slot` at each sorted place."""
    ends: Tensor
    """[E] int32: where each expert's pairs end."""

    @property
    def places(self) -> Tensor:
        """[N k] int64: the sorted place of each pair."""
        places = torch.empty_like(self.order)
        places[self.order] = torch.arange(self.order.shape[0], device=self.order.device)
        return places


def group(ids: Tensor, experts: int) -> Groups:
    """ids [N, k] -> pairs by expert; nothing is read back to the host."""
    chosen, order = torch.sort(ids.flatten())
    upto = torch.arange(1, experts + 1, device=ids.device, dtype=chosen.dtype)
    return Groups(order, torch.searchsorted(chosen, upto).int())


def grouped_product(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """x [P, K] sorted by expert, weight [E, N, K] -> [P, N]. torch's grouped product knows no float64."""
    if x.dtype != torch.float64:
        return F.grouped_mm(x, weight.transpose(-2, -1), offs=ends)
    bounds = [0, *ends.tolist()]
    return torch.cat([F.linear(x[a:b], weight[e]) for e, (a, b) in enumerate(pairwise(bounds))])


def combine(projected: Tensor, places: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """projected [P, H] at places [N k], weights [N, k] -> {"out": [N, H]}: each weighted (rounded to the wider of the
    two types), then summed in float32 and rounded once."""
    weighted = projected[places] * weights.reshape(-1, 1)
    return {"out": weighted.view(*weights.shape, -1).sum(1).to(projected.dtype)}


def experts_gate_up(x: Tensor, ids: Tensor, gate_up: Tensor) -> dict[str, Tensor]:
    """x [N, H], ids [N, k], gate_up [E, 2 I, H], gate rows first -> {"out": silu(gate) * up [N k, I]} in pair order."""
    groups = group(ids, gate_up.shape[0])
    gate, up = grouped_product(x[groups.order // ids.shape[1]], gate_up, groups.ends).chunk(2, -1)
    return {"out": swiglu(gate, up)["out"][groups.places]}


def experts_project(x: Tensor, ids: Tensor, down: Tensor) -> dict[str, Tensor]:
    """x [N k, I] in pair order, down [E, H, I] -> {"out": [N k, H]} in pair order, not yet weighted."""
    groups = group(ids, down.shape[0])
    return {"out": grouped_product(x[groups.order], down, groups.ends)[groups.places]}


def experts_down(x: Tensor, ids: Tensor, weights: Tensor, down: Tensor) -> dict[str, Tensor]:
    """x [N k, I] in pair order, down [E, H, I] -> {"out": the weighted sum [N, H] over each token's k experts}."""
    groups = group(ids, down.shape[0])
    return combine(grouped_product(x[groups.order], down, groups.ends), groups.places, weights)


class Experts(nn.Module):
    """Weights in Hugging Face's own layout, so that both may hold the same memory: gate_up_proj [E, 2 I, H], the gate's
    rows first, and down_proj [E, H, I]."""

    def __init__(self, experts: int, hidden: int, size: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.gate_up_proj = _unset((experts, 2 * size, hidden), dtype, device)
        self.down_proj = _unset((experts, hidden, size), dtype, device)
        self.gate = Gate()

    def forward(self, x: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        """x [N, H], ids [N, k] int64, weights [N, k] -> [N, H]."""
        groups = group(ids, self.gate_up_proj.shape[0])
        gate, up = grouped_product(x[groups.order // ids.shape[1]], self.gate_up_proj, groups.ends).chunk(2, -1)
        projected = grouped_product(self.gate(gate, up), self.down_proj, groups.ends)
        return combine(projected, groups.places, weights)["out"]


class MoE(nn.Module):
    """A router and the experts that it chooses among."""

    def __init__(self, router: nn.Module, experts: nn.Module) -> None:
        super().__init__()
        self.router, self.experts = router, experts

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, H] -> [B, T, H]. The router gives (ids [N, k], weights [N, k]) for x as [N, H]."""
        flat = x.flatten(0, -2)
        return self.experts(flat, *self.router(flat)).view_as(x)


def _unset(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> nn.Parameter:
    """A parameter of that shape without memory: a bank fills a device, and loading puts another in its place."""
    return nn.Parameter(torch.empty((), dtype=dtype, device=device).expand(shape), requires_grad=False)


def distinct_experts(load: Workload, experts: int, chosen: int) -> float:
    """How many experts of a choosing layer a call reads: those that were counted, or else the mean of those that its
    tokens touch when each draws `chosen` of them uniformly. That is an upper bound: real routing repeats itself."""
    if load.experts is not None:
        return load.experts
    return experts * (1 - (1 - chosen / experts) ** (load.batch * load.tokens))
