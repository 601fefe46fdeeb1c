"""The least bytes and flops of one call of the language model, from the geometry alone. The tower is left out: what it
needs follows from the images, and a floor must not be too high."""

from __future__ import annotations

import torch

from harness.spec.hf_config import HFConfig
from harness.spec.kernel import Cost
from harness.spec.model import Workload
from models.qwen3_vl_2b.config import geometry


def work(config: HFConfig, dtype: torch.dtype, load: Workload) -> Cost:
    """Every weight read once, every cached key and value read once, new ones written once; a multiply-add is 2 flops.
    Only the last token of a row meets the head."""
    g = geometry(config).text
    layer = g.hidden * (g.head_dim * (2 * g.heads + 2 * g.kv_heads) + 3 * g.intermediate)
    head = g.vocab * g.hidden
    cached = load.batch * load.context_tokens * 2 * g.layers * g.kv_heads * g.head_dim
    past = load.context_tokens - load.tokens
    seen = load.batch * (load.tokens * past + load.tokens * (load.tokens + 1) // 2)
    products = load.batch * (load.tokens * g.layers * layer + head)
    return Cost(
        bytes=dtype.itemsize * (g.layers * layer + head + cached),
        flops=2 * products + 4 * seen * g.layers * g.heads * g.head_dim,
    )
