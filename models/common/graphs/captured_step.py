"""One decode step captured as a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.cache.kv_cache import KVCache
from models.common.decoder.frame import Decoder
from models.common.decoder.swap import attach


@dataclass(frozen=True)
class _Capture:
    graph: torch.cuda.CUDAGraph
    tokens: Tensor
    logits: Tensor


class GraphedDecode:
    """Replays `decode(tokens [B, 1], cache) -> logits [B, vocab]`, one graph per cache; the cache must keep its memory
    (static or paged). The returned logits are overwritten by the next call."""

    def __init__(self, decode: Callable[[Tensor, KVCache], Tensor]) -> None:
        self.eager = decode
        self.captures: WeakKeyDictionary[KVCache, _Capture] = WeakKeyDictionary()

    def __call__(self, tokens: Tensor, cache: KVCache) -> Tensor:
        capture = self.captures.get(cache)
        if capture is None:
            capture = self.captures[cache] = self._capture(tokens, cache)
        capture.tokens.copy_(tokens)
        cache.check_room(1)
        capture.graph.replay()
        cache.length += 1
        return capture.logits

    def _capture(self, tokens: Tensor, cache: KVCache) -> _Capture:
        length, tokens = cache.length, tokens.clone()
        for _ in range(2):
            self.eager(tokens, cache)
            cache.rewind(length)
        graph, logits = recorded(lambda: self.eager(tokens, cache))
        cache.length = length
        return _Capture(graph, tokens, logits)


def recorded(run: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """`run` as a graph that is still to be replayed, and the tensor that its replays write. It must have run before:
    what compiles or reserves memory once must not be recorded."""
    graph = torch.cuda.CUDAGraph()
    # The matmul library keeps a workspace for every stream, and the graph is recorded on one of its own: without this,
    # that workspace would come on top of the one that eager calls left behind.
    torch._C._cuda_clearCublasWorkspaces()
    # Another thread may ask after events of its own meanwhile, as NCCL's watchdog does.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        out = run()
    return graph, out


def capture(model: Decoder, target: Target) -> Receipt:
    """Decode steps replay one CUDA graph per cache."""
    return Receipt("cuda_graph", attach(model, "decode", GraphedDecode(model.decode)))


CUDA_GRAPH = Optimization(
    name="cuda_graph",
    summary="the decode step as one captured CUDA graph",
    numerics="exact",
    apply=capture,
    provides=frozenset({"captured_step"}),
    requires=("kv_cache", "kv_cache_paged"),
    conflicts=("compile",),
    needs=("cuda",),
)
