"""The least bytes and flops of one call, from the geometry alone."""

from __future__ import annotations

import torch

from harness.spec.hf_config import HFConfig
from harness.spec.kernel import Cost
from harness.spec.model import Workload
from models.common.moe.eager import distinct_experts
from models.glm_4_7.config import geometry


def work(config: HFConfig, dtype: torch.dtype, load: Workload) -> Cost:
    """Every matrix that some token needs read once, of the experts those that the call visits;
    every cached key and value read once. A multiply-add is 2 flops. Only the last token of a row meets the head."""
    g = geometry(config)
    rows = load.batch * load.tokens
    attention = g.layers * g.hidden * g.head_dim * (2 * g.heads + 2 * g.kv_heads)
    always = g.experts * g.hidden + 3 * g.hidden * g.shared_size
    every_token = attention + g.dense_layers * 3 * g.hidden * g.intermediate + g.moe_layers * always
    expert = g.moe_layers * 3 * g.hidden * g.expert_size
    visited = distinct_experts(load, g.experts, g.chosen)
    head = g.vocab * g.hidden
    past = load.context_tokens - load.tokens
    pairs = load.batch * (load.tokens * past + load.tokens * (load.tokens + 1) // 2)
    kv = 2 * g.layers * g.kv_heads * g.head_dim * load.batch * load.context_tokens
    read = every_token + visited * expert + head + kv
    return Cost(
        bytes=int(dtype.itemsize * read),
        flops=2 * rows * (every_token + g.chosen * expert)
        + 2 * load.batch * head
        + 4 * pairs * g.layers * g.heads * g.head_dim,
    )
