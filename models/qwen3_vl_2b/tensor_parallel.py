"""Which rank holds what of the language model: heads and feed-forward channels by share, the vocabulary by share. Every
rank holds the whole tower and sees every image: it is a fifth of the weights, and cutting it would cost two all-reduces
a block."""

from __future__ import annotations

from models.common.parallel.optimization import one_shot_all_reduce
from models.common.parallel.sharding import (
    Pieces,
    Plan,
    SharedPieces,
    column,
    gathered,
    row,
    tensor_parallel,
    vocabulary,
)
from models.qwen3_vl_2b.model import Qwen3VL

ONE_SHOT_KIB = 256
"""Of a part that is summed in one launch: those of a decode step, not those of a long prompt."""


def plan(model: Qwen3VL) -> Plan:
    """Key-value heads fewer than the ranks are held by several of them; any other uneven share is refused."""
    g = model.geometry.text
    heads, kv_heads = Pieces("query heads", g.heads), SharedPieces("key-value heads", g.kv_heads)
    channels, entries = Pieces("feed-forward channels", g.intermediate), Pieces("vocabulary entries", g.vocab)
    projections = {name: column(kv_heads) for name in ("k_proj", "v_proj")} | {"q_proj": column(heads)}
    gated = {name: column(channels) for name in ("gate_proj", "up_proj")}
    return Plan(
        kv_heads,
        {
            "embed": vocabulary(entries),
            **{f"layers.*.attention.qkv.{name}": place for name, place in projections.items()},
            "layers.*.attention.o_proj": row(heads),
            **{f"layers.*.mlp.gate_up.{name}": place for name, place in gated.items()},
            "layers.*.mlp.down_proj": row(channels),
            "lm_head": gathered(entries),
        },
    )


TENSOR_PARALLEL = tensor_parallel(plan)
ONE_SHOT_ALL_REDUCE = one_shot_all_reduce(ONE_SHOT_KIB)
