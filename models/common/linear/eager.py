"""Projections: separate, and packed into one matrix so that one call reads all of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.decoder.swap import swap
from models.common.mlp.eager import SplitGateUp, SwiGLU, swiglu


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None, rounded: bool = True) -> dict[str, Tensor]:
    """x [M, K], weight [N, K], bias [N] -> {"out": [M, N]} in their dtype; as `sums` where it is not to be rounded."""
    return {"out": F.linear(x, weight, bias) if rounded else sums(x, weight, bias)}


def project_swiglu(x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """weight [2 I, K], gate rows first -> {"out": silu(gate) * up [M, I]}."""
    gate, up = F.linear(x, weight).chunk(2, -1)
    return swiglu(gate, up)


def sums(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K], weight [N, K], bias [N] -> [..., N] float32, or wider where they are: what `F.linear` would round."""
    if x.dtype in (torch.float32, torch.float64):
        return F.linear(x, weight, bias)
    if not x.is_cuda:
        return F.linear(x.float(), weight.float(), None if bias is None else bias.float())
    out = torch.mm(x.reshape(-1, x.shape[-1]), weight.t(), out_dtype=torch.float32).view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


def linear(in_size: int, out_size: int, bias: bool, dtype: torch.dtype, device: torch.device) -> nn.Linear:
    """A linear layer whose parameters are not yet set."""
    layer = nn.utils.skip_init(nn.Linear, in_size, out_size, bias=bias, dtype=dtype, device=device)
    return layer.requires_grad_(False)


def gated_block(hidden: int, size: int, dtype: torch.dtype, device: torch.device) -> SwiGLU:
    """A SwiGLU of `size` channels without biases, whose parameters are not yet set."""
    gate, up = (linear(hidden, size, False, dtype, device) for _ in range(2))
    return SwiGLU(SplitGateUp(gate, up), linear(size, hidden, False, dtype, device))


class SplitQKV(nn.Module):
    """Three projections, one call: x [B, T, H] -> q [B, T, heads, D], k and v [B, T, kv_heads, D]."""

    def __init__(self, q_proj: nn.Linear, k_proj: nn.Linear, v_proj: nn.Linear, head_dim: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.head_dim = q_proj, k_proj, v_proj, head_dim

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = (*x.shape[:-1], -1, self.head_dim)
        return self.q_proj(x).view(heads), self.k_proj(x).view(heads), self.v_proj(x).view(heads)


class PackedLinear(nn.Module):
    """Several linear layers of one input as a single matrix [sum of outputs, inputs]; the originals become views of it,
    so that names, sharing and checkpoints stay what they were."""

    def __init__(self, layers: list[nn.Linear]) -> None:
        super().__init__()
        self.sizes = [layer.out_features for layer in layers]
        self.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
        biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if len(biases) == len(layers) else None
        for layer, rows in zip(layers, self.weight.split(self.sizes), strict=True):
            layer.weight = nn.Parameter(rows, requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """x [..., H] -> one tensor [..., size] per packed layer, views of one result."""
        return F.linear(x, self.weight, self.bias).split(self.sizes, dim=-1)


class PackedQKV(nn.Module):
    """As SplitQKV, one matrix."""

    def __init__(self, packed: nn.Module, head_dim: int) -> None:
        super().__init__()
        self.packed, self.head_dim = packed, head_dim

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in self.packed(x))
        return q, k, v


def pack_neighbors(model: nn.Module) -> tuple[str, ...]:
    """Every q, k, v of `model` becomes one matrix, and every gate and up another. Returns the paths replaced."""
    touched = swap(model, SplitQKV, lambda m: PackedQKV(PackedLinear([m.q_proj, m.k_proj, m.v_proj]), m.head_dim))
    return touched + swap(model, SplitGateUp, lambda m: PackedLinear([m.gate_proj, m.up_proj]))
