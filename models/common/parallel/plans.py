"""Plans of a decoder: what every one of them cuts alike, and the parts of its feed-forward blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.common.parallel.tensor_parallel import (
    Partition,
    Placement,
    Plan,
    SharedPartition,
    column,
    experts,
    gathered,
    row,
    vocabulary,
)

Table = Mapping[str, Placement]


def decoder_plan(model: Any, *blocks: Table) -> Plan:
    """Cut heads and vocabulary over the ranks, and feed-forward `blocks` as they say; norms and routers are held whole.
    Key-value heads fewer than the ranks are held by several of them; any other uneven share is refused."""
    qkv = model.layers[0].attention.qkv
    heads = Partition("query heads", qkv.q_proj.out_features // qkv.head_dim)
    kv_heads = SharedPartition("key-value heads", model.caches.kv_heads)
    entries = Partition("vocabulary entries", model.lm_head.out_features)
    table = {
        "embed": vocabulary(entries),
        "layers.*.attention.qkv.q_proj": column(heads),
        "layers.*.attention.qkv.k_proj": column(kv_heads),
        "layers.*.attention.qkv.v_proj": column(kv_heads),
        "layers.*.attention.o_proj": row(heads),
        "lm_head": gathered(entries),
    }
    for block in blocks:
        table |= block
    return Plan(kv_heads, table)


def gated_block(path: str, channels: Partition) -> Table:
    """Gate, up and down of the block at `path` of every layer that has one there, by share of `channels`."""
    return {f"layers.*.{path}.gate_up.*": column(channels), f"layers.*.{path}.down_proj": row(channels)}


def expert_bank(path: str, channels: Partition) -> Table:
    """The bank of experts at `path` of every layer that has one there, by share of each one's `channels`."""
    return {f"layers.*.{path}": experts(channels)}
