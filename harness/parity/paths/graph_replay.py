"""Prompts that come again, for a build that keeps something of a call for its like: it must not be what the call was
told."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from harness.parity.levels.generation import fed
from harness.parity.levels.logits import Reference, judge_path
from harness.parity.paths.prefix_cache import PAGE_TOKENS
from harness.records.checks import Check
from harness.records.path_names import ExecutionPath
from harness.spec.optimization import Capability
from harness.spec.runtime import CausalLM, PrefixLM, prefix_lm

DECODED = 4
"""Tokens at the end that are decoded after the prompt: they read what its replay wrote."""


def check_again(model: CausalLM, provides: Collection[Capability], tokens: Tensor, known: Reference) -> list[Check]:
    """tokens [B, T] of text; `known` [B, T, vocab] is what the reference says to them, each but the first after those
    before it. `provides` tells what the model's stack does."""
    length = tokens.shape[1]
    ways = {ExecutionPath.PROMPT_AGAIN: _used(model, tokens)}
    if ExecutionPath.PROMPT_AGAIN_SHARED.needs <= {*provides}:
        ways[ExecutionPath.PROMPT_AGAIN_SHARED] = _reopened(prefix_lm(model), tokens)
    checks = []
    for path, ours in ways.items():
        judged = slice(length - 1 - ours.shape[1], length - 1)
        checks.append(judge_path(path, ours, Reference(known.upcast[:, judged], known.plain[:, judged])))
    return checks


def _used(model: CausalLM, tokens: Tensor) -> Tensor:
    """Logits [B, new, vocab] on a cache that twice took other tokens, as many."""
    batch, length = tokens.shape
    cache = model.new_cache(batch, length)
    for _ in range(2):
        model(torch.zeros_like(tokens)[:, :-DECODED], cache, keep=1)
        cache.rewind(0)
    return fed(model, tokens, cache, 0, length - DECODED, model.decode)


def _reopened(model: PrefixLM, tokens: Tensor) -> Tensor:
    """Logits [B, new, vocab] after a prefix that others shared before, who went on in pages of their own."""
    batch, length = tokens.shape
    shared = (length - DECODED) // 2
    prefixes = model.prefixes.resized(4 * batch * -(-length // PAGE_TOKENS), PAGE_TOKENS)
    for prompt in _others(tokens, shared):
        cache, matched = prefixes.open(prompt, length)
        model(prompt[:, matched:-DECODED], cache, keep=1)
        prefixes.close(cache)
    cache, matched = prefixes.open(tokens, length)
    ours = fed(model, tokens, cache, matched, length - DECODED, model.decode)
    prefixes.close(cache)
    return ours


def _others(tokens: Tensor, shared: int) -> Iterator[Tensor]:
    """The beginning alone, then two prompts that part from the tokens and from each other behind it."""
    yield tokens[:, : shared + DECODED]
    for token in (0, 1):
        end = torch.full_like(tokens[:, shared:], token)
        yield torch.cat((tokens[:, :shared], end), dim=1)
