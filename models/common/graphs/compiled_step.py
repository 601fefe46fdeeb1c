"""The decode step through torch.compile."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.cache.kv_cache import KVCache
from models.common.decoder.frame import Decoder
from models.common.decoder.swap import attach


def compile_decode(model: Decoder, target: Target) -> Receipt:
    """The decode step's tensor part, shapes fixed."""
    compute = torch.compile(model.compute, fullgraph=True, dynamic=False)

    def decode(tokens: Tensor, cache: KVCache) -> Tensor:
        return compute(tokens, cache.extend(1), cache, 1)[:, -1]

    return Receipt("compile", attach(model, "decode", decode))


COMPILE = Optimization(
    name="compile",
    summary="the decode step through torch.compile",
    numerics="reordered",
    apply=compile_decode,
    provides=frozenset({"captured_step"}),
    requires=("kv_cache", "kv_cache_paged"),
    conflicts=("cuda_graph",),
    needs=("c++",),
)
