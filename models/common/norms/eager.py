"""Root-mean-square normalization as the Qwen3 and GLM families define it in Hugging Face transformers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def upcast(x: Tensor) -> Tensor:
    """`x` in the type that reductions run in: float32 for half types, its own otherwise."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., H] times weight [H]; the mean square in float32, rounded to x's dtype before and after the weight."""
    w = upcast(x)
    return weight * (w * torch.rsqrt(w.pow(2).mean(-1, keepdim=True) + eps)).to(x.dtype)


def norm(x: Tensor, weight: Tensor, eps: float) -> dict[str, Tensor]:
    """x [..., H] -> {"normed": like x}."""
    return {"normed": rms_norm(x, weight, eps)}


def add_norm(delta: Tensor, residual: Tensor, weight: Tensor, eps: float) -> dict[str, Tensor]:
    """delta, residual [..., H] -> {"normed": the norm of their sum, "residual": their sum}."""
    total = residual + delta
    return {"normed": rms_norm(total, weight, eps), "residual": total}


class ScaledNorm(nn.Module):
    """The weight [H] and the epsilon of a norm without bias."""

    def __init__(self, size: int, eps: float, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, dtype=dtype, device=device), requires_grad=False)
        self.eps = eps


class RMSNorm(ScaledNorm):
    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class AddRMSNorm(ScaledNorm):
    """Adds a sub-layer's output to the residual stream, then normalizes: one step of `x + f(norm(x))` seen from the
    next norm. `delta` is None where nothing has been computed yet (the first layer)."""

    def forward(self, delta: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        if delta is not None:
            residual = residual + delta
        return rms_norm(residual, self.weight, self.eps), residual
