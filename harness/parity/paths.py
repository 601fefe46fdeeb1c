"""The ways to the same logits: chunked, padded, alone, through another cache, replayed; all judged alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from harness.parity.generation import Generated, forced
from harness.parity.logits import Reference, judge_logits
from harness.parity.rules import worst
from harness.record import Check
from harness.spec import ModelSpec, Target

CHUNKS = (7, 1, 16)
"""Prefill chunk lengths, repeated: short, single, longer."""


def check_paths(
    model: Any, spec: ModelSpec, target: Target, generated: Generated, wide: Tensor, plain: Tensor
) -> list[Check]:
    """wide and plain [B, T, vocab] on `generated.tokens` [B, T]; one check a path, its worst rule."""
    tokens = generated.tokens
    runs: dict[str, Callable[[], tuple[Tensor, Reference]]] = {
        "chunked prefill": lambda: (_chunked(model, tokens), _all(wide, plain)),
        "left-padded batch": lambda: (_padded(model, tokens), _all(wide, plain)),
        "one row alone": lambda: (_prefill(model, tokens[:1]), _all(wide[:1], plain[:1])),
    }
    start = generated.prompt_tokens
    decoded = Reference(wide[:, start - 1 : -1].flatten(0, 1), generated.logits.flatten(0, 1))
    for name, other in _other_caches(model, spec, target):
        runs[f"{name} cache"] = lambda other=other: (other(lambda: forced(model, generated, model.decode)), decoded)
    if "decode" in vars(model):
        eager = type(model).decode
        runs["eager decode"] = lambda: (forced(model, generated, lambda t, c: eager(model, t, c)), decoded)
    checks = []
    for name, run in runs.items():
        ours, reference = run()
        checks.append(worst(judge_logits(ours.flatten(0, -2), reference, "path", name)))
    return checks


def _all(wide: Tensor, plain: Tensor) -> Reference:
    return Reference(wide.flatten(0, 1), plain.flatten(0, 1))


def _prefill(model: Any, tokens: Tensor) -> Tensor:
    out: Tensor = model(tokens, model.new_cache(*tokens.shape))
    return out


def _chunked(model: Any, tokens: Tensor) -> Tensor:
    cache, parts, at = model.new_cache(*tokens.shape), [], 0
    while at < tokens.shape[1]:
        size = CHUNKS[len(parts) % len(CHUNKS)]
        parts.append(model(tokens[:, at : at + size], cache))
        at += size
    return torch.cat(parts, dim=1)


def _padded(model: Any, tokens: Tensor) -> Tensor:
    """Row b gets b + 1 tokens of left padding and everything else is shifted; the padding's logits are left out."""
    batch, length = tokens.shape
    starts = [batch - row for row in range(batch)]
    padded = torch.zeros(batch, length + batch, dtype=tokens.dtype, device=tokens.device)
    for row, start in enumerate(starts):
        padded[row, start : start + length] = tokens[row]
    logits = model(padded, model.new_cache(batch, length + batch, starts))
    return torch.stack([logits[row, start : start + length] for row, start in enumerate(starts)])


def _other_caches(model: Any, spec: ModelSpec, target: Target) -> Iterator[tuple[str, Any]]:
    """Every cache layout of the menu that the model does not use now, as a way to run something under it."""
    for item in spec.menu.items:
        if item.name.startswith("kv_cache"):
            yield item.name, _under(model, lambda item=item: item.apply(model, target))


def _under(model: Any, apply: Callable[[], Any]) -> Callable[[Callable[[], Tensor]], Tensor]:
    def run(work: Callable[[], Tensor]) -> Tensor:
        before = model.cache_factory
        apply()
        try:
            return work()
        finally:
            model.cache_factory = before

    return run
