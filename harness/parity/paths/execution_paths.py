"""The ways to the same logits: chunked, padded, alone, another cache, replayed, a reused prefix; all judged alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor

from harness.build import builder
from harness.build.inputs import prepared
from harness.errors import CacheFull
from harness.parity.levels.generation import ReferenceText, forced
from harness.parity.levels.logits import judge_path
from harness.parity.paths.padding import Padded
from harness.parity.paths.prefix_cache import check_prefixes, counted
from harness.records.checks import Check
from harness.records.path_names import ExecutionPath
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import CausalLM, KVCache, plain_step, prefix_lm

PATH_TOKENS = 16
"""New tokens that each path goes over; generation goes over all of them."""
LATE_TOKENS = 4
"""New tokens that another cache layout decodes, at the end of the longest sequence."""
COMPANY_TOKENS = 4
"""New tokens that another number of rows goes over."""
CHUNKS = (7, 1, 16)
"""Prefill chunk lengths, repeated: short, single, longer."""


def check_paths(model: CausalLM, config: builder.BuildConfig, known: ReferenceText) -> list[Check]:
    """One check a path, its worst rule. Other cache layouts decode the end of the longest sequence: the beginning fits
    into one page."""
    late = known.last(LATE_TOKENS)
    known = known.first(PATH_TOKENS)
    checks = base_paths(model, known)
    for layout in config.spec.menu.providing("cache_layout"):
        if layout.name not in config.stack:
            with _taken_back(model):
                layout.apply(model, config.target)
                ours = forced(model, late.generated, model.decode)
            checks.append(judge_path(f"{layout.name} {ExecutionPath.CACHE_LAYOUT}", ours, late.decoded))
    if ExecutionPath.PLAIN_STEP.needs <= config.provides:
        ours = forced(model, known.generated, plain_step(model))
        checks.append(judge_path(ExecutionPath.PLAIN_STEP, ours, known.decoded))
    if "prefix_cache" in config.provides:
        checks += check_prefixes(prefix_lm(model), known)
    return checks


def base_paths(model: CausalLM, known: ReferenceText, company_tokens: int = COMPANY_TOKENS) -> list[Check]:
    """One check each of the paths that every build has: in chunks, padded, alone, and in other company, that on so many
    tokens."""
    known = known.first(PATH_TOKENS)
    inputs = known.generated.inputs
    chunked, claimed = _chunked(model, inputs)
    padded = _padded(model, inputs, known.generated.prompt_tokens)
    return [
        judge_path(ExecutionPath.CHUNKED_PREFILL, chunked, known.whole),
        counted(ExecutionPath.CHUNKED_PREFILL, "slots claimed by a call that does not fit", claimed),
        judge_path(ExecutionPath.LEFT_PADDED_BATCH, padded, known.whole),
        judge_path(ExecutionPath.ROW_ALONE, _prefill(model, inputs.row(0)), known.alone().whole),
        _company(model, known.first(company_tokens)),
    ]


def _company(model: CausalLM, known: ReferenceText) -> Check:
    """Steps of another number of rows, which may take other kernels: the first row of several, or one beside a copy."""
    several = len(known.generated.tokens) > 1
    beside, company = (known.alone(), "alone") if several else (known.twice(), "beside its copy")
    ours = forced(model, beside.generated, model.decode)
    return judge_path(f"{ExecutionPath.ROW_DECODED} {company}", ours, beside.decoded)


@contextmanager
def _taken_back(model: CausalLM) -> Iterator[None]:
    """Whatever attributes of the model are set inside are what they were outside."""
    before = dict(vars(model))
    try:
        yield
    finally:
        vars(model).clear()
        vars(model).update(before)


def _prefill(model: CausalLM, inputs: ModelInputs) -> Tensor:
    return model(inputs.tokens, prepared(model, inputs, inputs.tokens.shape[1]))


def _chunked(model: CausalLM, inputs: ModelInputs) -> tuple[Tensor, int]:
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


def _claimed(model: CausalLM, token: Tensor, cache: KVCache) -> int:
    """Slots that a call with one token more than the cache has room for claims: it is refused, and claims none."""
    held = cache.length
    with suppress(CacheFull):
        model(token.expand(-1, cache.capacity - held + 1), cache)
    claimed = cache.length - held
    cache.rewind(held)
    return claimed


def _padded(model: CausalLM, inputs: ModelInputs, prompt_tokens: int) -> Tensor:
    """Every row behind padding of its own, the padding's logits left out. The cache is told of the prompt alone, the
    call runs past it."""
    padded = Padded.unlike(inputs.tokens)
    told = inputs.continued(padded.tokens[:, : prompt_tokens + padded.most])
    logits = model(padded.tokens, prepared(model, told, padded.slots, padded.left_padding))
    return padded.spoken(logits).view(*inputs.tokens.shape, -1)
