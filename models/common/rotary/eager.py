"""Rotary position embedding on the first `cos.shape[-1]` channels, halves rotated against each other (NeoX order)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, T, heads, D]; cos, sin [B, T, R] with R <= D, in x's dtype. Channels past R pass through."""
    size = cos.shape[-1]
    turned, passed = x[..., :size], x[..., size:]
    first, second = turned.chunk(2, dim=-1)
    half_turn = torch.cat((-second, first), dim=-1)
    turned = turned * cos.unsqueeze(2) + half_turn * sin.unsqueeze(2)
    return torch.cat((turned, passed), dim=-1) if passed.shape[-1] else turned


class RotaryTable(nn.Module):
    """Positions -> (cos, sin) for one base and width. Frequencies stay float32 whatever the model's dtype."""

    def __init__(self, theta: float, size: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        # The meta device would forget the values, which no checkpoint holds.
        place = torch.device("cpu") if device.type == "meta" else device
        exponents = torch.arange(0, size, 2, dtype=torch.float32, device="cpu") / size
        self.inv_freq: Tensor
        self.register_buffer("inv_freq", (1.0 / theta**exponents).to(place), persistent=False)
        self.dtype = dtype

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [B, T] integer -> cos, sin [B, T, size] in the model's dtype."""
        return self.turned(positions.unsqueeze(-1).float() * self.inv_freq)

    def turned(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """angles [B, T, size / 2] float32 -> cos, sin [B, T, size] in the model's dtype."""
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(self.dtype), angles.sin().to(self.dtype)
