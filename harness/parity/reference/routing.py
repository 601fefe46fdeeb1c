"""Mixture-of-experts models: a near-tie may send a token to another expert, and all that follows is another number.

So the choice is judged by itself, and what follows with the wide reference's choice replayed into the plain model and
into ours.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from harness.build.dtypes import dtype_name, wider
from harness.errors import HarnessError
from harness.parity.tolerance.rules import judge, relative_frobenius, worst
from harness.records.checks import UNBOUNDED, Check
from harness.spec.model import Routing
from harness.spec.runtime import CausalLM

FLIP_FACTOR, FLIP_DEVIATIONS = 1.25, 3.0
ROUTER_FLOOR, ROUTER_FACTOR = 1e-5, 3.0
"""Relative error of a router's weights on the same input: what float32 sums in another order stay far below, and how
many times the plain router's own."""


@dataclass(frozen=True)
class Route:
    """One layer's choice for tokens [B, T]: ids and weights [B, T, k]."""

    ids: Tensor
    weights: Tensor

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: change(tensor) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class RankedRoute(Route):
    """A reference's choice, with the scores [B, T, E] that it ranked the experts by."""

    ranks: Tensor


@dataclass
class Routes:
    """Layer index -> its route; dense layers have none."""

    layers: dict[int, Route] = field(default_factory=dict)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Routes:
        """With `change` of every tensor."""
        return Routes({index: route.mapped(change) for index, route in self.layers.items()})


def gate_of(layer: nn.Module, path: str) -> nn.Module | None:
    """The module at `path` of a layer, None where the layer is dense."""
    return dict(layer.named_modules()).get(path)


@contextmanager
def reference_choice(
    layer: nn.Module,
    routing: Routing | None,
    shape: torch.Size,
    replay: Route | None,
    made: Callable[[RankedRoute], None],
) -> Iterator[None]:
    """While open, a Hugging Face layer tells what it chooses for tokens of `shape` [B, T], and follows `replay`."""
    gate = gate_of(layer, routing.reference) if routing else None
    if routing is None or gate is None:
        yield
        return

    def hook(module: nn.Module, _: Any, out: Any) -> Any:
        logits, weights, ids = out
        ranks = routing.ranks(module, logits)
        made(RankedRoute(ids.view(*shape, -1), weights.view(*shape, -1), ranks.view(*shape, -1)))
        if replay is None:
            return None
        return logits, replay.weights.to(weights.dtype).flatten(0, 1), replay.ids.flatten(0, 1)

    handle = gate.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def our_choices(
    model: CausalLM, routing: Routing | None, replay: Routes | None, made: Callable[[int, Route], None] | None = None
) -> Iterator[None]:
    """While open, our layers tell what they choose and follow `replay`, each token by its row and its position. The
    lookup runs on the device, so that a step captured meanwhile follows it at every replay."""
    with ExitStack() as stack:
        for index, layer in enumerate(model.layers if routing else ()):
            gate = gate_of(layer, routing.ours) if routing else None
            if routing is not None and gate is not None:
                handles = _follow(
                    layer, gate, routing, replay.layers.get(index) if replay else None, _told(index, made)
                )
                stack.callback(_remove, handles)
        yield


def _told(index: int, made: Callable[[int, Route], None] | None) -> Callable[[Route], None] | None:
    return None if made is None else (lambda route: made(index, route))


def _follow(
    layer: nn.Module,
    gate: nn.Module,
    routing: Routing,
    replay: Route | None,
    made: Callable[[Route], None] | None,
) -> list[RemovableHandle]:
    where: dict[str, Tensor] = {}

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        where["positions"] = routing.positions(*args, **kwargs)

    def after(_: nn.Module, __: Any, out: Any) -> Any:
        ids, weights = out
        positions = where["positions"]
        if made is not None:
            made(Route(ids.view(*positions.shape, -1), weights.view(*positions.shape, -1)))
        if replay is None:
            return None
        # A row more than was replayed is a copy of the last one. Padding behind a row's end is routed too, and nobody
        # looks at it.
        rows = torch.arange(positions.shape[0], device=positions.device).clamp_max(replay.ids.shape[0] - 1).unsqueeze(1)
        positions = positions.clamp_max(replay.ids.shape[1] - 1)
        chosen, weighted = replay.ids[rows, positions], replay.weights[rows, positions]
        return chosen.flatten(0, 1).to(ids.dtype), weighted.flatten(0, 1).to(weights.dtype)

    return [layer.register_forward_pre_hook(before, with_kwargs=True), gate.register_forward_hook(after)]


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def judge_choice(ours: Route, plain: RankedRoute, upcast: RankedRoute, layer: int, dtype: str) -> list[Check]:
    """Experts chosen on the same layer input: another set than the reference's only where the reference's own gap is
    within twice the plain model's error; and the weights, by the op rules, where all three chose alike."""
    allowed = 2 * (plain.ranks.to(upcast.ranks.dtype) - upcast.ranks).abs().amax(-1)
    illegal, same = _illegal(ours.ids, upcast, allowed)
    places = illegal.nonzero()
    subject = f"layer {layer}"
    checks = [
        Check(
            level="layer",
            subject=subject,
            name=f"chosen experts {dtype}",
            rule="routing",
            error=len(places),
            noise=0,
            limit=0,
            where=f"first at batch row {int(places[0, 0])}, token {int(places[0, 1])}" if len(places) else "",
        )
    ]
    common = same & _alike(plain.ids, upcast.ids)
    if bool(common.any()):
        o, p, r = (_by_id(route)[common] for route in (ours, plain, upcast))
        name = f"expert weights {dtype}"
        checks.append(worst(judge(o.to(p.dtype), r, p, level="layer", subject=subject, name=name)))
    return checks


def check_router(model: CausalLM, gate: nn.Module, routing: Routing, index: int, x: Tensor) -> list[Check]:
    """Our router of layer `index` by itself, on the very input x [N, H] of the reference's `gate`: what it computes in
    float32 must be so whatever the model's dtype, which the noise of a whole layer would hide."""
    ours_gate = gate_of(model.layers[index], routing.ours)
    if ours_gate is None:
        raise HarnessError(f"layer {index} of the reference chooses experts and ours has no {routing.ours}")
    wide_gate = copy.deepcopy(gate).to(wider(x.dtype))
    plain, upcast = _chosen(gate, routing, x), _chosen(wide_gate, routing, x.to(wider(x.dtype)))
    ids, weights = ours_gate(x)
    noise = (plain.ranks.to(upcast.ranks.dtype) - upcast.ranks).abs().amax(-1)
    illegal, common = _illegal(ids, upcast, 2 * noise + ROUTER_FLOOR * upcast.ranks.abs().amax(-1))
    common &= _alike(plain.ids, upcast.ids)
    o, p, r = (_by_id(route)[common] for route in (Route(ids, weights), plain, upcast))
    error, spread = relative_frobenius(o, r), relative_frobenius(p, r)
    subject, dtype = f"router of layer {index}", dtype_name(x.dtype)
    return [
        Check(
            level="layer",
            subject=subject,
            name=f"chosen experts {dtype}",
            rule="routing",
            error=int(illegal.sum()),
            noise=0,
            limit=0,
        ),
        Check(
            level="layer",
            subject=subject,
            name=f"expert weights {dtype}",
            rule="relative Frobenius",
            error=min(error, UNBOUNDED),
            noise=spread,
            limit=max(ROUTER_FLOOR, ROUTER_FACTOR * spread),
        ),
    ]


def _chosen(gate: nn.Module, routing: Routing, x: Tensor) -> RankedRoute:
    logits, weights, ids = gate(x)
    return RankedRoute(ids, weights, routing.ranks(gate, logits))


def _illegal(ids: Tensor, upcast: RankedRoute, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Where `ids` are another set than the wide reference's though its gap is more than `allowed`; where they are the
    same one."""
    best = upcast.ranks.topk(upcast.ids.shape[-1] + 1, dim=-1).values
    same = _alike(ids, upcast.ids)
    return ~same & (best[..., -2] - best[..., -1] > allowed), same


def judge_flips(ours: Routes, plain: Routes, upcast: Routes) -> Check:
    """Free-running: the share of chosen experts that the wide reference did not choose, against the plain model's."""
    missed, missed_plain, total = 0, 0, 0
    for index, route in upcast.layers.items():
        missed += _missed(ours.layers[index].ids, route.ids)
        missed_plain += _missed(plain.layers[index].ids, route.ids)
        total += route.ids.numel()
    slack = FLIP_DEVIATIONS * math.sqrt(max(missed_plain, 1)) / total
    return Check(
        level="logits",
        subject="free-running routing",
        name=f"{total} choices",
        rule="flip rate",
        error=missed / total,
        noise=missed_plain / total,
        limit=FLIP_FACTOR * missed_plain / total + slack,
    )


def _alike(ids: Tensor, others: Tensor) -> Tensor:
    """Of each token, whether both sets are equal."""
    return (ids.sort(-1).values == others.sort(-1).values).all(-1)


def _missed(ids: Tensor, others: Tensor) -> int:
    found = (ids.unsqueeze(-1) == others.unsqueeze(-2)).any(-1)
    return int((~found).sum())


def _by_id(route: Route) -> Tensor:
    """Weights in ascending order of their expert's id."""
    return route.weights.gather(-1, route.ids.argsort(-1))
