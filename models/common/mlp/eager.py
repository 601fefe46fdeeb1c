"""The gated feed-forward block: down(silu(gate(x)) * up(x))."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def swiglu(gate: Tensor, up: Tensor) -> dict[str, Tensor]:
    """gate, up [..., I] -> {"out": [..., I]}; the sigmoid-weighted gate is rounded before the product."""
    return {"out": F.silu(gate) * up}


class Gate(nn.Module):
    """silu(gate) * up."""

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(gate) * up


class SplitGateUp(nn.Module):
    """Two projections, one call: x [B, T, H] -> gate, up [B, T, I]."""

    def __init__(self, gate_proj: nn.Linear, up_proj: nn.Linear) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = gate_proj, up_proj

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.gate_proj(x), self.up_proj(x)


class SwiGLU(nn.Module):
    def __init__(self, gate_up: nn.Module, down_proj: nn.Module) -> None:
        super().__init__()
        self.gate_up, self.gate, self.down_proj = gate_up, Gate(), down_proj

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gate(*self.gate_up(x)))
