"""Which rank holds what: heads, feed-forward channels of every block and every expert, and the vocabulary by share;
norms and routers whole."""

from __future__ import annotations

from models.common.decoder.frame import Decoder
from models.common.parallel.optimization import one_shot_all_reduce
from models.common.parallel.sharding import (
    Pieces,
    Plan,
    SharedPieces,
    column,
    experts,
    gathered,
    row,
    size,
    tensor_parallel,
    vocabulary,
)

ONE_SHOT_KIB = 256
"""Of a part that is summed in one launch: those of a decode step, not those of a long prompt."""


def plan(model: Decoder) -> Plan:
    """Key-value heads fewer than the ranks are held by several of them; any other uneven share is refused."""
    head_dim, last = model.caches.head_dim, f"layers.{len(model.layers) - 1}.mlp"
    heads = Pieces("query heads", size(model, "layers.0.attention.qkv.q_proj.weight", 0) // head_dim)
    kv_heads = SharedPieces("key-value heads", model.caches.kv_heads)
    channels = Pieces("feed-forward channels", size(model, "layers.0.mlp.down_proj.weight", 1))
    routed = Pieces("channels of an expert", size(model, f"{last}.routed.experts.down_proj", 2))
    shared = Pieces("channels of the shared expert", size(model, f"{last}.shared.down_proj.weight", 1))
    entries = Pieces("vocabulary entries", model.lm_head.out_features)
    return Plan(
        kv_heads,
        {
            "embed": vocabulary(entries),
            "layers.*.attention.qkv.q_proj": column(heads),
            "layers.*.attention.qkv.k_proj": column(kv_heads),
            "layers.*.attention.qkv.v_proj": column(kv_heads),
            "layers.*.attention.o_proj": row(heads),
            "layers.*.mlp.gate_up.*": column(channels),
            "layers.*.mlp.down_proj": row(channels),
            "layers.*.mlp.routed.experts": experts(routed),
            "layers.*.mlp.shared.gate_up.*": column(shared),
            "layers.*.mlp.shared.down_proj": row(shared),
            "lm_head": gathered(entries),
        },
    )


TENSOR_PARALLEL = tensor_parallel(plan)
ONE_SHOT_ALL_REDUCE = one_shot_all_reduce(ONE_SHOT_KIB)
