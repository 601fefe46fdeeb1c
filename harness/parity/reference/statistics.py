"""What the weights of a reference are like, measured on a text: how sharp its attention and its routers are, how far
its largest channels stand out, how near its choices are to a tie.

Every measure stands beside the range that trained models are known for. The ranges are wide, over models, layers and
lengths of text, and no limit of the gate follows from them. Where they are from:

- Attention. Models of many kinds give the first token much of their attention, whatever it is (Xiao et al. 2023, Gu et
  al. 2024), scores spread far so that heads can ignore the rest (Bondarenko et al. 2023), and a small part of the keys
  holds nearly all of the probability (Zhang et al. 2023, H2O; Jiang et al. 2024, MInference).
- Routers. Loads of experts are unequal in Mixtral (Jiang et al. 2024) and OLMoE (Muennighoff et al. 2024), and the
  weights of the experts that a token visits fall off quickly.
- Outlier channels of 20 times the others and more at almost every token appear as models grow (Dettmers et al. 2022,
  LLM.int8()); single values a thousand times the median stand at the first token (Sun et al. 2024).
- Near-ties. Rounding alone changes a few percent of first choices (Dutta et al. 2024).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.parity.reference.oracle import Known
from harness.parity.reference.reference_model import ReferenceModel, Trace, captured_attention
from harness.parity.reference.routing import RankedRoute, reference_choice
from harness.records.weight_statistics import JudgedWeights, Statistic
from harness.spec.model_inputs import ModelInputs

RANGES: dict[str, tuple[float, float]] = {
    "score range": (8.0, 100.0),
    "attention to the first token": (0.15, 0.95),
    "keys within 1/8 of the top": (0.0, 0.25),
    "key blocks of 16 under 1e-4 of the top": (0.1, 1.0),
    "key blocks of 64 under 1e-4 of the top": (0.05, 1.0),
    "router entropy": (0.2, 0.9),
    "chosen experts under 0.02": (0.02, 0.7),
    "largest load of an expert": (2.0, 50.0),
    "experts without a token": (0.02, 0.7),
    "largest channel": (20.0, 5000.0),
    "largest value": (300.0, 1e5),
    "first choices within the plain error": (0.005, 0.4),
}
"""Name -> from, to. Score range: largest minus smallest score, nats. Router entropy: of the weights of a token's
experts, over that of equal ones. Load: over the mean load. Channel: RMS over tokens, over the median channel's. Value:
over the median magnitude. Attention is measured on queries of the second half of the text."""
NEAR, LIGHT, LIGHT_EXPERT = 1 / 8, 1e-4, 0.02
BLOCKS = (16, 64)
ROWS = 2
"""Rows of a batch that are measured, at most."""


@torch.no_grad()
def statistics(plain: ReferenceModel, known: Known, weights: JudgedWeights) -> tuple[Statistic, ...]:
    """Every measure that the model has, of the first rows of a text that the reference has answered; none that is no
    number."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, value in _measures(plain, known):
        if math.isfinite(value):
            found[name].append(value)
    return tuple(
        Statistic(weights=weights, name=name, value=_joined(name, found[name]), low=low, high=high)
        for name, (low, high) in RANGES.items()
        if name in found
    )


def _joined(name: str, values: list[float]) -> float:
    """Outliers count where they are largest, all else on average over layers."""
    return max(values) if name.startswith("largest") else sum(values) / len(values)


def _measures(plain: ReferenceModel, known: Known) -> Iterator[tuple[str, float]]:
    inputs = known.inputs.first(ROWS)
    *layers, last = plain.layer_inputs(inputs)
    for index, hidden in enumerate(layers):
        seen = _watch(plain, index, inputs, hidden)
        yield from _of_stream(hidden)
        yield from _of_attention(seen)
        if seen.route is not None:
            yield from _of_routing(seen.route)
    yield from _of_stream(last)
    yield from _of_choices(known)


class _Seen(NamedTuple):
    """One layer at work: queries [B, heads, T, D], keys [B, heads, T, D], the factor on scores, and its experts."""

    query: Tensor
    keys: Tensor
    scale: float
    route: RankedRoute | None


def _watch(plain: ReferenceModel, index: int, inputs: ModelInputs, hidden: Tensor) -> _Seen:
    run, trace, routes = plain.layer(index, inputs), Trace(), list[RankedRoute]()
    attention: Any = run.layer.get_submodule("self_attn")
    with (
        captured_attention(run.layer, trace),
        reference_choice(run.layer, plain.routing, hidden.shape[:2], None, routes.append),
    ):
        run(hidden)
    head_dim, scale = int(attention.head_dim), float(attention.scaling)
    query, keys = (trace[name].unflatten(-1, (-1, head_dim)).transpose(1, 2).float() for name in ("@query", "@keys"))
    keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], 1)
    return _Seen(query, keys, scale, routes[0] if routes else None)


def _of_attention(seen: _Seen) -> Iterator[tuple[str, float]]:
    """One row at a time: the scores of all would not fit beside a full model."""
    tokens = seen.query.shape[2]
    later = torch.arange(tokens // 2, tokens, device=seen.query.device)
    hidden = torch.arange(tokens, device=later.device) > later.unsqueeze(1)
    for query, keys in zip(seen.query, seen.keys, strict=True):
        scores = query[:, later] @ keys.mT * seen.scale
        best, least = scores.masked_fill(hidden, -torch.inf).amax(-1), scores.masked_fill(hidden, torch.inf).amin(-1)
        chances = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        shares = chances / chances.amax(-1, keepdim=True)
        yield "score range", float((best - least).mean())
        yield "attention to the first token", float(chances[..., 0].mean())
        visible = (~hidden).sum() * len(scores)
        yield "keys within 1/8 of the top", float((shares >= NEAR).sum() / visible)
        for size in (size for size in BLOCKS if tokens >= 2 * size):
            yield f"key blocks of {size} under 1e-4 of the top", _light_blocks(shares, hidden, size)


def _light_blocks(shares: Tensor, hidden: Tensor, size: int) -> float:
    """Of shares [heads, Q, T] of a row's top probability: the blocks of keys that a query sees some of, and that hold
    next to none of it."""
    room = -shares.shape[-1] % size
    blocks = torch.nn.functional.pad(shares, (0, room)).unflatten(-1, (-1, size)).amax(-1)
    seen = ~torch.nn.functional.pad(hidden, (0, room), value=True).unflatten(-1, (-1, size)).all(-1)
    return float(((blocks < LIGHT) & seen).sum() / (seen.sum() * len(shares)))


def _of_routing(route: RankedRoute) -> Iterator[tuple[str, float]]:
    chosen = route.weights.double()
    chosen = chosen / chosen.sum(-1, keepdim=True)
    if chosen.shape[-1] > 1:
        yield "router entropy", float(torch.special.entr(chosen).sum(-1).mean()) / math.log(chosen.shape[-1])
    yield "chosen experts under 0.02", float((chosen < LIGHT_EXPERT).double().mean())
    load = torch.bincount(route.ids.flatten(), minlength=route.ranks.shape[-1]).double()
    yield "largest load of an expert", float(load.max() / load.mean())
    yield "experts without a token", float((load == 0).double().mean())


def _of_stream(hidden: Tensor) -> Iterator[tuple[str, float]]:
    """hidden [B, T, H]. The first token is left out of channels: what stands out there alone is a value."""
    sizes = hidden.double().abs()
    channels = sizes[:, 1:].square().mean((0, 1)).sqrt()
    yield "largest channel", float(channels.max() / channels.median())
    yield "largest value", float(sizes.max() / sizes.median())


def _of_choices(known: Known) -> Iterator[tuple[str, float]]:
    top = known.upcast.topk(2, dim=-1).values
    error = (known.plain.to(known.upcast.dtype) - known.upcast).abs().amax(-1)
    yield "first choices within the plain error", float((top[..., 0] - top[..., 1] < error).double().mean())
