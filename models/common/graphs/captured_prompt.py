"""A prompt's forward pass captured as a CUDA graph when it comes again, and replayed from then on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harness.spec.mutant import Mutant
from harness.spec.optimization import Optimization, Receipt, Target
from harness.spec.parameter import Parameter
from models.common.cache.kv_cache import KVCache, Slots
from models.common.decoder.frame import Decoder
from models.common.decoder.swap import attach
from models.common.graphs.captured_step import recorded

MOST_TOKENS = 4096
"""Of all rows of a call. Past them the device takes longer than the host needs to launch its work, and the
intermediate results that a graph holds on to grow with them."""
MOST_CALLS = 8
"""Kinds of call that are remembered for one cache; the one unused for longest goes first."""


@dataclass(frozen=True)
class _Kind:
    """What a replay cannot change. Two calls of one kind on one cache launch the same kernels on the same memory."""

    tokens: int
    max_len: int
    masked: bool
    keep: int


@dataclass(frozen=True)
class _Capture:
    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    logits: Tensor


class GraphedPrompts:
    """Runs `compute` eagerly for the first call of a kind on a cache, captures the second, and replays it from then on.

    Left eager: one token a row, logits of every token, caches whose memory moves, prompts with images, and calls of
    more than `max_tokens` tokens. Of each cache, the `kept_calls` kinds used last are remembered.
    """

    def __init__(
        self, compute: Callable[..., Tensor], max_tokens: int = MOST_TOKENS, kept_calls: int = MOST_CALLS
    ) -> None:
        self.eager, self.max_tokens, self.kept_calls = compute, max_tokens, kept_calls
        self.calls: WeakKeyDictionary[KVCache, OrderedDict[_Kind, _Capture | None]] = WeakKeyDictionary()

    def __call__(self, tokens: Tensor, slots: Slots, cache: KVCache, keep: int, *seen: Any) -> Tensor:
        """As `Decoder.compute`; the logits are the caller's own."""
        shown = any(item is not None for item in seen)
        small = tokens.shape[1] > 1 and tokens.numel() <= self.max_tokens
        if shown or not (small and keep and cache.replayable):
            return self.eager(tokens, slots, cache, keep, *seen)
        kind = _Kind(slots.tokens, slots.max_len, slots.masked, keep)
        known = self.calls.setdefault(cache, OrderedDict())
        if kind not in known:
            known[kind] = None
            if len(known) > self.kept_calls:
                known.popitem(last=False)
            return self.eager(tokens, slots, cache, keep)
        known.move_to_end(kind)
        capture = known[kind]
        if capture is None:
            capture = known[kind] = self._capture(tokens.clone(), slots, cache, keep)
        return self.replay(capture, tokens).clone()

    def replay(self, capture: _Capture, tokens: Tensor) -> Tensor:
        """Logits in the graph's own memory, which its next replay overwrites."""
        capture.tokens.copy_(tokens)
        capture.graph.replay()
        return capture.logits

    def _capture(self, tokens: Tensor, slots: Slots, cache: KVCache, keep: int) -> _Capture:
        # What an earlier run derived from the slots is not part of this one's graph: it would stay as it was.
        graph, logits = recorded(lambda: self.eager(tokens, replace(slots, kept={}), cache, keep))
        return _Capture(graph, tokens, logits)


class _FirstTokens(GraphedPrompts):
    def replay(self, capture: _Capture, tokens: Tensor) -> Tensor:
        capture.graph.replay()
        return capture.logits


class _FirstAnswer(GraphedPrompts):
    def replay(self, capture: _Capture, tokens: Tensor) -> Tensor:
        return capture.logits


class _FirstPlaces(GraphedPrompts):
    """The graph goes on with the pages, lengths and padding of the call that it was captured from."""

    def _capture(self, tokens: Tensor, slots: Slots, cache: KVCache, keep: int) -> _Capture:
        held = {name: getattr(slots, name).clone() for name in ("block_table", "left_padding", "seq_lens")}
        return super()._capture(tokens, replace(slots, **held), cache, keep)


def replaying(faulty: type[GraphedPrompts], name: str, kind: str, beside: str = "compute") -> Mutant:
    """A fault of how prompts are replayed, in a model that has `beside` of its own."""

    def plant(model: Decoder) -> tuple[str, ...]:
        right = vars(model).get("compute")
        if not isinstance(right, GraphedPrompts) or beside not in vars(model):
            return ()
        return attach(model, "compute", faulty(right.eager, right.max_tokens, right.kept_calls))

    return Mutant(name, kind, plant)


def capture(model: Decoder, target: Target, max_tokens: int = MOST_TOKENS, kept_calls: int = MOST_CALLS) -> Receipt:
    """Prompts whose length comes again on a cache are replayed."""
    touched = attach(model, "compute", GraphedPrompts(model.compute, max_tokens, kept_calls))
    return Receipt("prompt_graph", touched, (f"calls of up to {max_tokens} tokens, {kept_calls} kinds a cache",))


PROMPT_GRAPH = Optimization(
    name="prompt_graph",
    summary="a prompt whose length comes again as one captured CUDA graph",
    numerics="exact",
    apply=capture,
    provides=frozenset({"captured_prompt"}),
    requires=("kv_cache", "kv_cache_paged"),
    needs=("cuda",),
    mutants=(
        replaying(_FirstTokens, "prompt replays the tokens it was captured with", "cached"),
        replaying(_FirstAnswer, "prompt answered from its capture", "cached"),
        replaying(_FirstPlaces, "prompt written where the captured one stood", "cache", "prefixes"),
    ),
    parameters=(
        Parameter("max_tokens", MOST_TOKENS, range(64, 65537), "Most tokens of all rows of a call that is captured."),
        Parameter("kept_calls", MOST_CALLS, range(2, 65), "Most kinds of call that are remembered for one cache."),
    ),
)
