"""The vision tower, eager: patches of all images as one sequence [N, hidden], each attending to its own frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.spec.model_inputs import Features, Grid
from models.common.linear.eager import linear
from models.qwen3_vl_2b.config import VisionGeometry
from models.qwen3_vl_2b.grid import Patches, patches
from models.qwen3_vl_2b.merger import DeepMerger, Merger
from models.qwen3_vl_2b.segments import SegmentAttend, Segments
from models.qwen3_vl_2b.tower_layers import AddLayerNorm, RotatePair


class Embedding(nn.Module):
    """Pixel rows -> hidden states: one projection, and a learned table of positions read between its entries."""

    def __init__(self, g: VisionGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        kernel = (g.hidden, g.channels, g.frames, g.patch, g.patch)
        self.weight = nn.Parameter(torch.empty(kernel, dtype=dtype, device=device), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(g.hidden, dtype=dtype, device=device), requires_grad=False)
        self.positions = nn.utils.skip_init(nn.Embedding, g.side**2, g.hidden, dtype=dtype, device=device)

    def forward(self, pixels: Tensor, at: Patches) -> Tensor:
        """pixels [N, channels * frames * patch * patch] -> [N, hidden]. A convolution whose stride is its kernel is a
        linear layer; positions are weighed in float32."""
        x = F.linear(pixels.to(self.weight.dtype), self.weight.flatten(1), self.bias)
        return x + (self.positions(at.taps) * at.weights.unsqueeze(-1)).sum(1).to(x.dtype)


class AxialRotary(nn.Module):
    """A quarter of a head's frequencies turn by the patch's row, a quarter by its column; the halves repeat them."""

    def __init__(self, g: VisionGeometry, device: torch.device) -> None:
        super().__init__()
        # The meta device would forget the values, which no checkpoint holds.
        place = torch.device("cpu") if device.type == "meta" else device
        half = g.head_dim // 2
        exponents = torch.arange(0, half, 2, dtype=torch.float32, device="cpu") / half
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", (1.0 / g.rope_theta**exponents).to(place), persistent=False)

    def forward(self, at: Patches) -> tuple[Tensor, Tensor]:
        """cos, sin [N, head_dim] float32."""
        angles = torch.stack((at.rows, at.columns), dim=1).unsqueeze(-1).float() * self.inv_freq
        angles = angles.flatten(1).repeat(1, 2)
        return angles.cos(), angles.sin()


class Attention(nn.Module):
    def __init__(self, g: VisionGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.heads = g.heads
        self.qkv = linear(g.hidden, 3 * g.hidden, True, dtype, device)
        self.rotary = RotatePair(g.heads)
        self.attend = SegmentAttend(1 / math.sqrt(g.head_dim))
        self.proj = linear(g.hidden, g.hidden, True, dtype, device)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, segments: Segments) -> Tensor:
        """x [N, hidden] -> [N, hidden]."""
        qkv = self.qkv(x)
        q, k = self.rotary(qkv, cos, sin)
        v = qkv.unflatten(1, (3, self.heads, -1))[:, 2]
        return self.proj(self.attend(q, k, v, segments).flatten(1))


class MLP(nn.Module):
    def __init__(self, g: VisionGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.up = linear(g.hidden, g.intermediate, True, dtype, device)
        self.down = linear(g.intermediate, g.hidden, True, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, g: VisionGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.input_norm = AddLayerNorm(g.hidden, g.eps, dtype, device)
        self.attention = Attention(g, dtype, device)
        self.post_norm = AddLayerNorm(g.hidden, g.eps, dtype, device)
        self.mlp = MLP(g, dtype, device)

    def forward(
        self, delta: Tensor | None, residual: Tensor, cos: Tensor, sin: Tensor, segments: Segments
    ) -> tuple[Tensor, Tensor]:
        """The last sub-layer's output and the residual stream, both [N, hidden], in and out."""
        x, residual = self.input_norm(delta, residual)
        x, residual = self.post_norm(self.attention(x, cos, sin, segments), residual)
        return self.mlp(x), residual


class Tower(nn.Module):
    def __init__(self, g: VisionGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.geometry = g
        self.embedding = Embedding(g, dtype, device)
        self.rotary = AxialRotary(g, device)
        self.blocks = nn.ModuleList([Block(g, dtype, device) for _ in range(g.blocks)])
        self.merger = Merger(g, dtype, device)
        self.deep_mergers = nn.ModuleList([DeepMerger(g, dtype, device) for _ in g.deep])

    def forward(self, pixels: Tensor, grids: Sequence[Grid]) -> Features:
        """pixels [N, values of a patch] of images with these grids, in merge order -> features [N / merge^2, out]."""
        at = patches(grids, self.geometry, pixels.device)
        segments = Segments(at.segments, pixels.device)
        cos, sin = self.rotary(at)
        delta, residual = None, self.embedding(pixels, at)
        deep: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            delta, residual = block(delta, residual, cos, sin, segments)
            if index in self.geometry.deep:
                deep.append(self.deep_mergers[len(deep)](residual + delta))
        return Features(self.merger(residual + delta), tuple(deep))

    def block(self, index: int, hidden: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Block `index` alone: hidden [N, hidden] -> the same after it."""
        at = patches(grids, self.geometry, hidden.device)
        segments = Segments(at.segments, hidden.device)
        delta, residual = self.blocks[index](None, hidden, *self.rotary(at), segments)
        return residual + delta
