"""The ways to the same logits: chunked, padded, alone, another cache, replayed, a reused prefix; all judged alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.build.inputs import prepared
from harness.errors import CacheFull
from harness.parity.levels.generation import Generated, forced
from harness.parity.levels.logits import Reference, judge_path
from harness.parity.paths.padding import Padded
from harness.parity.paths.prefix_cache import check_prefixes, counted
from harness.records.checks import Check
from harness.spec.inputs import ModelInputs
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target

PATH_TOKENS = 16
"""New tokens that each path goes over; generation goes over all of them."""
LATE_TOKENS = 4
"""New tokens that another cache layout decodes, at the end of the longest sequence."""
COMPANY_TOKENS = 4
"""New tokens that another number of rows goes over."""
CHUNKS = (7, 1, 16)
"""Prefill chunk lengths, repeated: short, single, longer."""


def check_paths(
    model: Any,
    spec: ModelSpec,
    stack: Sequence[str],
    target: Target,
    generated: Generated,
    wide: Tensor,
    plain: Tensor,
    stepwise: Tensor,
) -> list[Check]:
    """wide and plain [B, T, vocab] on `generated.tokens` [B, T], `stepwise` [B, new, vocab] the plain model's when it
    decodes; one check a path, its worst rule. Other cache layouts decode the end of the longest sequence: the beginning
    fits into one page."""
    late = generated.last(LATE_TOKENS)
    end = Reference(wide[:, late.prompt_tokens - 1 : -1], stepwise[:, -late.new_tokens :])
    generated = generated.first(PATH_TOKENS)
    tokens, start = generated.tokens, generated.prompt_tokens
    wide, plain = wide[:, : tokens.shape[1]], plain[:, : tokens.shape[1]]
    whole = Reference(wide, plain)
    stepwise = stepwise[:, : generated.new_tokens]
    decoded = Reference(wide[:, start - 1 : -1], stepwise)
    chunked, claimed = _chunked(model, generated.inputs)
    checks = [
        judge_path("chunked prefill", chunked, whole),
        counted("chunked prefill", "slots claimed by a call that does not fit", claimed),
        judge_path("left-padded batch", _padded(model, generated.inputs, start), whole),
        judge_path("one row alone", _prefill(model, generated.inputs.row(0)), Reference(wide[:1], plain[:1])),
        _company(model, generated.first(COMPANY_TOKENS), wide, stepwise),
    ]
    for item in spec.menu.items:
        if item.name.startswith("kv_cache") and item.name not in stack:
            with _other_cache(model):
                item.apply(model, target)
                checks.append(judge_path(f"{item.name} layout", forced(model, late, model.decode), end))
    if "decode" in vars(model):
        eager = partial(type(model).decode, model)
        checks.append(judge_path("decode without graph or compiler", forced(model, generated, eager), decoded))
    if "prefixes" in vars(model):
        checks += check_prefixes(model, generated, wide, plain, stepwise)
    return checks


def _company(model: Any, generated: Generated, wide: Tensor, stepwise: Tensor) -> Check:
    """Steps of another number of rows, which may take other kernels: the first row of several, or one beside a copy."""
    start, new = generated.prompt_tokens, generated.new_tokens
    wide, plain = wide[:, start - 1 : start + new - 1], stepwise[:, :new]
    if len(generated.tokens) > 1:
        return judge_path(
            "one row decoded alone", forced(model, generated.alone(), model.decode), Reference(wide[:1], plain[:1])
        )
    ours = forced(model, generated.twice(), model.decode)
    return judge_path("one row decoded beside its copy", ours, Reference(wide.tile(2, 1, 1), plain.tile(2, 1, 1)))


@contextmanager
def _other_cache(model: Any) -> Iterator[None]:
    """Whatever cache layout is chosen inside is given back outside."""
    before = model.cache_factory
    try:
        yield
    finally:
        model.cache_factory = before


def _prefill(model: Any, inputs: ModelInputs) -> Tensor:
    out: Tensor = model(inputs.tokens, prepared(model, inputs, inputs.tokens.shape[1]))
    return out


def _chunked(model: Any, inputs: ModelInputs) -> tuple[Tensor, int]:
    """Before the last chunk comes a call that is a token too long: logits, and how many slots that call claimed."""
    tokens = inputs.tokens
    cache = prepared(model, inputs, tokens.shape[1])
    parts: list[Tensor] = []
    at, claimed = 0, 0
    while at < tokens.shape[1]:
        size = CHUNKS[len(parts) % len(CHUNKS)]
        if at + size >= tokens.shape[1]:
            claimed = _claimed(model, tokens[:, :1], cache)
        parts.append(model(tokens[:, at : at + size], cache))
        at += size
    return torch.cat(parts, dim=1), claimed


def _claimed(model: Any, token: Tensor, cache: Any) -> int:
    """Slots that a call with one token more than the cache has room for claims: it is refused, and claims none."""
    held = cache.length
    with suppress(CacheFull):
        model(token.expand(-1, cache.capacity - held + 1), cache)
    claimed: int = cache.length - held
    cache.rewind(held)
    return claimed


def _padded(model: Any, inputs: ModelInputs, prompt_tokens: int) -> Tensor:
    """Every row behind padding of its own, the padding's logits left out. The cache is told of the prompt alone, the
    call runs past it."""
    padded = Padded.unlike(inputs.tokens)
    told = inputs.continued(padded.tokens[:, : prompt_tokens + padded.most])
    logits = model(padded.tokens, prepared(model, told, padded.slots, padded.starts))
    return padded.spoken(logits).view(*inputs.tokens.shape, -1)
