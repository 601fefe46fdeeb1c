"""Attention of packed sequences without a mask: every token sees its own segment, both ways; the eager twin of the
segment kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend_segments(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, scale: float) -> dict[str, Tensor]:
    """q, k, v [N, heads, D], segment i from bounds[i] to bounds[i + 1] -> {"out": [N, heads, D]}."""
    sizes = bounds.diff().tolist()
    return {"out": _attend(q, k, v, sizes, scale)}


def _attend(q: Tensor, k: Tensor, v: Tensor, sizes: Sequence[int], scale: float) -> Tensor:
    parts = zip(*(x.transpose(0, 1).unsqueeze(0).split(list(sizes), dim=2) for x in (q, k, v)), strict=True)
    outs = [F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2) for q, k, v in parts]
    return torch.cat(outs, dim=1).squeeze(0)


class Segments:
    """Lengths of packed sequences, on the host and as bounds [segments + 1] int32 on the device."""

    def __init__(self, sizes: Sequence[int], device: torch.device) -> None:
        self.sizes = tuple(sizes)
        ends = torch.tensor((0, *self.sizes)).cumsum(0)
        self.bounds = ends.to(dtype=torch.int32, device=device)


class SegmentAttend(nn.Module):
    """One call of torch's scaled_dot_product_attention per segment."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
        """q, k, v [N, heads, D] -> [N, heads, D]."""
        return _attend(q, k, v, segments.sizes, self.scale)
