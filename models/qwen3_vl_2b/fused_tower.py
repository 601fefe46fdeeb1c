"""Modules of a vision tower that stand where their eager twins stood and launch one kernel instead."""

from __future__ import annotations

from torch import Tensor, nn

from models.qwen3_vl_2b.kernels import layer_norm, rotate_pair, segment_attention
from models.qwen3_vl_2b.segments import SegmentAttend, Segments
from models.qwen3_vl_2b.tower_layers import AddLayerNorm, RotatePair


class FusedAddLayerNorm(nn.Module):
    """As AddLayerNorm."""

    def __init__(self, norm: AddLayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, delta: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        if delta is None:
            return layer_norm.launch_norm(residual, self.weight, self.bias, self.eps)["normed"], residual
        done = layer_norm.launch_add_norm(delta, residual, self.weight, self.bias, self.eps)
        return done["normed"], done["residual"]


class FusedRotatePair(nn.Module):
    """As RotatePair."""

    def __init__(self, eager: RotatePair) -> None:
        super().__init__()
        self.heads = eager.heads

    def forward(self, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        done = rotate_pair.launch(qkv, cos, sin, self.heads)
        return done["q"], done["k"]


class FlashSegments(nn.Module):
    """As SegmentAttend: all segments in one launch."""

    def __init__(self, eager: SegmentAttend) -> None:
        super().__init__()
        self.scale = eager.scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
        return segment_attention.launch(q, k, v, segments.bounds, self.scale, max(segments.sizes))["out"]
