"""The least bytes and flops of one call, from the geometry alone."""

from __future__ import annotations

import torch

from harness.spec.hf_config import HFConfig
from harness.spec.kernel import Cost
from harness.spec.model import Workload
from models.common.moe.eager import distinct_experts
from models.qwen3_coder_30b.config import geometry


def work(config: HFConfig, dtype: torch.dtype, load: Workload) -> Cost:
    """Every weight that some token needs read once, of the experts those that the call visits;
    every cached key and value read once. A multiply-add is 2 flops. Only the last token of a row meets the head."""
    g = geometry(config)
    width = dtype.itemsize
    rows = load.batch * load.tokens
    attention = g.hidden * g.head_dim * (2 * g.heads + 2 * g.kv_heads)
    router, expert = g.experts * g.hidden, 3 * g.hidden * g.expert_size
    visited = distinct_experts(load, g.experts, g.chosen)
    read = attention + router + visited * expert
    head = g.vocab * g.hidden
    past = load.context_tokens - load.tokens
    pairs = load.batch * (load.tokens * past + load.tokens * (load.tokens + 1) // 2)
    kv = 2 * g.layers * g.kv_heads * g.head_dim * load.batch * load.context_tokens
    return Cost(
        bytes=int(width * (g.layers * read + head + kv)),
        flops=2 * rows * g.layers * (attention + router + g.chosen * expert)
        + 2 * load.batch * head
        + 4 * pairs * g.layers * g.heads * g.head_dim,
    )
