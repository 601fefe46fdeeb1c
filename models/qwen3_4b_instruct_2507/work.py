"""The least bytes and flops of one call, from the geometry alone."""

from __future__ import annotations

import torch

from harness.spec.hf_config import HFConfig
from harness.spec.kernel import Cost
from harness.spec.model import Workload
from models.qwen3_4b_instruct_2507.config import geometry


def work(config: HFConfig, dtype: torch.dtype, load: Workload) -> Cost:
    """Every weight read once, every cached key and value read once, new ones written once; a multiply-add is 2 flops.
    Only the last token of a row meets the head."""
    g = geometry(config)
    width = dtype.itemsize
    attention = g.hidden * g.head_dim * (2 * g.heads + 2 * g.kv_heads)
    per_layer = attention + 3 * g.hidden * g.intermediate
    head = g.vocab * g.hidden
    rows = load.batch * load.tokens
    kv_token = 2 * g.layers * g.kv_heads * g.head_dim
    past = load.context_tokens - load.tokens
    pairs = load.batch * (load.tokens * past + load.tokens * (load.tokens + 1) // 2)
    kv_tokens = load.batch * (past + load.tokens)
    return Cost(
        bytes=width * (g.layers * per_layer + head + kv_token * kv_tokens),
        flops=2 * rows * g.layers * per_layer + 2 * load.batch * head + 4 * pairs * g.layers * g.heads * g.head_dim,
    )
