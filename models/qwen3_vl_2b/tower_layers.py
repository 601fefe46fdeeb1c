"""Layer normalization and the rotation of a packed projection, which `fused_tower` replaces by a kernel each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.rotary.eager import rotate


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> dict[str, Tensor]:
    """x [..., H] -> {"normed": like x}."""
    return {"normed": F.layer_norm(x, weight.shape, weight, bias, eps)}


def add_layer_norm(delta: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> dict[str, Tensor]:
    """delta, residual [..., H] -> {"normed": the layer norm of their sum, "residual": their sum}."""
    total = residual + delta
    return {"normed": F.layer_norm(total, weight.shape, weight, bias, eps), "residual": total}


class AddLayerNorm(nn.Module):
    """As AddRMSNorm, with mean and bias."""

    def __init__(self, size: int, eps: float, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, dtype=dtype, device=device), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(size, dtype=dtype, device=device), requires_grad=False)
        self.eps = eps

    def forward(self, delta: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        if delta is not None:
            residual = residual + delta
        return layer_norm(residual, self.weight, self.bias, self.eps)["normed"], residual


def rotate_pair(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> dict[str, Tensor]:
    """qkv [N, 3 * heads * D]; cos, sin [N, D], at least float32 -> {"q", "k"}, both [N, heads, D] in qkv's dtype,
    rotated in the type of cos and rounded once."""
    q, k, _ = qkv.unflatten(1, (3, heads, -1)).unbind(1)
    upcast = torch.promote_types(cos.dtype, qkv.dtype)
    q, k = (rotate(x.to(upcast).unsqueeze(0), cos.unsqueeze(0), sin.unsqueeze(0))[0].to(qkv.dtype) for x in (q, k))
    return {"q": q, "k": k}


class RotatePair(nn.Module):
    """Queries and keys of one packed projection, rotated."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """As rotate_pair."""
        done = rotate_pair(qkv, cos, sin, self.heads)
        return done["q"], done["k"]
