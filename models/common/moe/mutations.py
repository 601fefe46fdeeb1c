"""Faults of a sparse feed-forward block: what its router says, and what its experts do with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.spec.mutant import Mutant
from models.common.decoder.plant import at, inputs, output


def _neighbor(ids: Tensor) -> Tensor:
    """Experts exchanged in pairs: in range for any even number of them."""
    return ids ^ 1


def _last_dropped(weights: Tensor) -> Tensor:
    return torch.cat((weights[..., :-1], torch.zeros_like(weights[..., -1:])), dim=-1)


def _uniform(weights: Tensor) -> Tensor:
    return torch.full_like(weights, 1 / weights.shape[-1])


def _said(ids: Any = lambda i: i, weights: Any = lambda w: w) -> Any:
    return output(lambda both: (ids(both[0]), weights(both[1])))


def _given(ids: Any = lambda i: i, weights: Any = lambda w: w) -> Any:
    return inputs(lambda x, i, w: (x, ids(i), weights(w)))


def expert_mutants(block: str) -> tuple[Mutant, ...]:
    """Faults of a router and experts at `block`.router and `block`.experts of a layer."""
    router, experts = f"{block}.router", f"{block}.experts"
    return (
        at(router, _said(ids=_neighbor), "router names the neighbor of each expert", "expert"),
        at(router, _said(ids=lambda i: i.flip(-1)), "router pairs weights and experts in reverse", "expert"),
        at(router, _said(weights=_last_dropped), "router drops the last expert", "expert"),
        at(router, _said(weights=lambda w: w * 0.9), "router weights do not sum to one", "scale"),
        at(router, _said(weights=_uniform), "router weights are all alike", "expert"),
        at(router, _said(weights=lambda w: w.square()), "router weights from squared scores", "expert"),
        at(experts, _given(ids=_neighbor), "the neighbor of each expert computes", "expert"),
        at(experts, _given(ids=_neighbor), "last layer: the neighbor of each expert computes", "expert", last=True),
        at(experts, _given(weights=_last_dropped), "last expert's answer dropped", "expert"),
        at(experts, _given(weights=torch.ones_like), "experts summed without weights", "expert"),
        at(experts, _given(weights=lambda w: w.roll(1, 0)), "experts weighted for another token", "expert"),
        at(experts, inputs(lambda x, i, w: (x.roll(1, 0), i, w)), "experts read another token", "expert"),
    )
