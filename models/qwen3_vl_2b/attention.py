"""Qwen3 attention: three projections without bias, a norm on every query and key head, rotation, grouped queries."""

from __future__ import annotations

import torch
from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.attention.decode_attention import MAX_SPLITS
from models.common.attention.decode_attention_cases import DECODE_ATTENTION
from models.common.attention.eager import Attend, Attention, NormRotateWrite
from models.common.attention.prefill_attention_cases import PREFILL_ATTENTION
from models.common.decoder.swap import swap
from models.common.fused import SPLITS, FlashAttend, Workspaces
from models.common.linear.eager import SplitQKV, linear
from models.common.norms.eager import RMSNorm
from models.qwen3_vl_2b.config import TextGeometry
from models.qwen3_vl_2b.fused_tower import FlashSegments
from models.qwen3_vl_2b.kernels.segment_attention_cases import SEGMENT_ATTENTION
from models.qwen3_vl_2b.segments import SegmentAttend


def attention(g: TextGeometry, dtype: torch.dtype, device: torch.device) -> Attention:
    q_size, kv_size = g.heads * g.head_dim, g.kv_heads * g.head_dim
    return Attention(
        SplitQKV(
            linear(g.hidden, q_size, False, dtype, device),
            linear(g.hidden, kv_size, False, dtype, device),
            linear(g.hidden, kv_size, False, dtype, device),
            g.head_dim,
        ),
        NormRotateWrite(RMSNorm(g.head_dim, g.eps, dtype, device), RMSNorm(g.head_dim, g.eps, dtype, device)),
        Attend(g.head_dim**-0.5),
        linear(q_size, g.hidden, False, dtype, device),
    )


def flash(model: nn.Module, target: Target, max_splits: int = MAX_SPLITS) -> Receipt:
    """Attention through the prefill and decode kernels; the tower's through one launch for all frames."""
    workspaces = Workspaces()
    touched = swap(model, Attend, lambda m: FlashAttend(m, workspaces, max_splits))
    return Receipt("attention", touched + swap(model, SegmentAttend, FlashSegments))


ATTENTION = Optimization(
    name="attention",
    summary="flash prefill and split-key decode attention over pages; all frames of the tower in one launch",
    numerics="reordered",
    apply=flash,
    kernels=(PREFILL_ATTENTION, DECODE_ATTENTION, SEGMENT_ATTENTION),
    needs=("triton",),
    parameters=(SPLITS,),
)
