"""Random weights made to show what trained ones show: sharp attention with a sink, routers with favorites, outlier
channels, wide norm weights, and tokens that are nearly tied."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from harness.build.inputs import generator
from harness.build.recipes.residual_stream import EMBEDDED, Stream, rms
from harness.build.recipes.sharp_attention import Channels, point_keys, point_queries, spread_norm
from harness.build.recipes.skewed_router import CORRECTION, CORRECTION_SPREAD, skew
from harness.errors import HarnessError
from harness.spec.model import ModelSpec

LOGITS = 1.0
"""RMS of a token's logits."""
OUTLIER_SHARE = 1 / 32
"""Of what other layers make of outlier channels, that which the head is shown of them."""
TIED_SHARE, TIED = 0.25, 2**-8
"""Of the vocabulary, that which is in pairs; and how far apart the rows of a pair are, relative to their size."""
GATED = 0.6
"""RMS of what a gate makes of inputs of the RMS 1."""


@torch.no_grad()
def trained_like(model: nn.Module, spec: ModelSpec, seed: int) -> None:
    """Rewrite the random weights of the reference `model` in place. HarnessError where no layer has what the spec's
    anatomy names."""
    core: Any = model.get_submodule(spec.decoder)
    table, head = core.embed_tokens.weight, model.get_submodule("lm_head").get_parameter("weight")
    stream, purpose = Stream.of(table.shape[1], seed), f"{spec.decoder}.layers"
    _check_anatomy(spec, core.layers)
    size = EMBEDDED if head is table else rms(head)
    stream.embed(table, seed)
    for linear in _matching(model, spec.anatomy.image_writes):
        stream.embed_images(linear, GATED)
    for linear in _matching(model, spec.anatomy.image_adds):
        stream.add_images(linear)
    for index, layer in enumerate(core.layers):
        _layer(layer, index, spec, stream, core.rotary_emb.inv_freq, f"{purpose}.{index}", seed)
    _last_norm(core.norm.weight, 2 * len(core.layers), stream, size, seed)
    _tie(head, seed)


def _layer(
    layer: Any, index: int, spec: ModelSpec, stream: Stream, frequencies: Tensor, purpose: str, seed: int
) -> None:
    anatomy, head_dim = spec.anatomy, layer.self_attn.head_dim
    channels = Channels.of(frequencies, head_dim)
    point_queries(layer.get_submodule(anatomy.query), channels, head_dim, stream)
    point_keys(layer.get_submodule(anatomy.key), channels, head_dim, stream)
    for path in filter(None, (anatomy.query_norm, anatomy.key_norm)):
        spread_norm(layer.get_submodule(path), channels, seed, f"{purpose}.{path}")
    for before, path in enumerate((anatomy.attention_norm, anatomy.feed_forward_norm)):
        weight = layer.get_submodule(path).weight
        stream.norm(weight, 2 * index + before, seed, f"{purpose}.{path}")
    for weight in _found(layer, anatomy.writes):
        stream.write(weight)
    gate = dict(layer.named_modules()).get(spec.routing.reference) if spec.routing else None
    if gate is not None:
        weight = gate.get_parameter("weight")
        _, _, ids = gate(weight.new_zeros(1, stream.hidden))
        skew(weight, ids.shape[-1], stream, seed, f"{purpose}.router")
        for correction in gate.buffers():
            correction.mul_(CORRECTION_SPREAD).add_(CORRECTION)


def _last_norm(weight: Tensor, blocks: int, stream: Stream, head: float, seed: int) -> None:
    """For a head whose rows have the RMS `head`. Weights of either sign: a head that is tied to the embedding would
    otherwise answer with the token that it was asked."""
    stream.norm(weight, blocks, seed, "last norm", LOGITS / head / stream.hidden**0.5)
    weight[torch.rand(len(weight), generator=generator(seed, "signs")).to(weight.device) < 0.5] *= -1
    weight[stream.common] *= OUTLIER_SHARE
    weight[stream.massive] *= OUTLIER_SHARE


def _tie(head: Tensor, seed: int) -> None:
    """Have rows of `head` [vocab, H] differ from their neighbors by little more than rounding."""
    pairs = int(len(head) * TIED_SHARE) // 2
    rows = head[2 : 2 + 2 * pairs].unflatten(0, (pairs, 2))
    apart = torch.randn(pairs, head.shape[1], generator=generator(seed, "near ties"))
    rows[:, 1] = rows[:, 0] * (1 + TIED * apart).to(rows)


def _found(layer: nn.Module, paths: tuple[str, ...]) -> Iterator[Tensor]:
    held = dict(layer.named_parameters())
    return (held[path] for path in paths if path in held)


def _matching(model: nn.Module, pattern: str | None) -> list[nn.Module]:
    found = [module for name, module in model.named_modules() if pattern is not None and fnmatch(name, pattern)]
    if pattern is not None and not found:
        raise HarnessError(f"the reference has no {pattern}: what images show would stay as drawn")
    return found


def _check_anatomy(spec: ModelSpec, layers: nn.ModuleList) -> None:
    held = {name for layer in layers for name, _ in layer.named_parameters()}
    lost = [path for path in spec.anatomy.writes if path not in held]
    if lost:
        raise HarnessError(
            f"{spec.name}: no layer of the reference has {', '.join(lost)}: its writes would stay as drawn"
        )
