"""The least bytes and flops of one call, from the geometry alone."""

from __future__ import annotations

import torch

from harness.spec.hf_config import HFConfig
from harness.spec.kernel import Cost
from harness.spec.model import Workload
from models.small_llama.config import geometry


def work(config: HFConfig, dtype: torch.dtype, load: Workload) -> Cost:
    """Every weight read once, every cached key and value read once, new ones written once; a multiply-add is 2 flops.
    Only the last token of a row meets the head."""
    g = geometry(config)
    layers = g.layers * g.hidden * (2 * g.head_dim * (g.heads + g.kv_heads) + 3 * g.intermediate)
    head = g.vocab * g.hidden
    queries = load.batch * load.tokens
    past = load.context_tokens - load.tokens
    cached = 2 * g.layers * g.kv_heads * g.head_dim * load.batch * load.context_tokens
    pairs = queries * past + queries * (load.tokens + 1) // 2
    return Cost(
        bytes=dtype.itemsize * (layers + head + cached),
        flops=2 * queries * layers + 2 * load.batch * head + 4 * pairs * g.layers * g.heads * g.head_dim,
    )
