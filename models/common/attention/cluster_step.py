"""Attention whose decode steps are one CUDA launch."""

from __future__ import annotations

from torch import Tensor, nn

from harness.spec.parameter import Parameter
from models.common.attention import cluster_attention
from models.common.attention.eager import Attention, rms_norms
from models.common.cache.kv_cache import LayerCache, Slots
from models.common.decoder.swap import swap
from models.common.kernels.cuda_library import library


class ClusterAttention(Attention):
    """As the Attention it is made from: one token of at most `rows` rows over at most `keys` keys goes through the
    kernel, all else the way it went before."""

    def __init__(self, eager: Attention, rows: int, keys: int) -> None:
        super().__init__(eager.qkv, eager.rotary, eager.attend, eager.o_proj)
        self.rows, self.keys = rows, keys

    def mix(self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        batch, tokens, heads, size = q.shape
        kv_heads = k.shape[2]
        fits = batch <= self.rows and slots.max_len <= self.keys
        if not fits or not cluster_attention.serves(q.dtype, tokens, heads, kv_heads, size):
            return super().mix(q, k, v, cos, sin, cache, slots)
        q_norm, k_norm = rms_norms(self.rotary)
        return cluster_attention.launch(
            q,
            k,
            v,
            q_norm.weight,
            k_norm.weight,
            cos,
            sin,
            cache.keys,
            cache.values,
            slots.block_table,
            slots.left_padding,
            slots.seq_lens,
            q_norm.eps,
            self.attend.scale,
        )["out"]


def step_limits(rows: int, keys: int) -> tuple[Parameter, Parameter]:
    """Declare which decode steps are one launch."""
    return (
        Parameter("rows", rows, range(1, 65), "Most sequences of a decode step that is one launch."),
        Parameter("keys", keys, range(256, 262145, 256), "Most tokens of a row's cache that such a step reads."),
    )


def cluster(model: nn.Module, rows: int, keys: int) -> tuple[str, ...]:
    """Every Attention of `model` through the kernel, which is compiled now. Returns the paths replaced."""
    library(cluster_attention.SOURCE)
    return swap(model, Attention, lambda m: ClusterAttention(m, rows, keys))
