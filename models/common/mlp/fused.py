"""silu with the product after it, one kernel launch."""

from __future__ import annotations

from torch import Tensor, nn

from models.common.mlp import swiglu


class FusedGate(nn.Module):
    """silu(gate) * up."""

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        return swiglu.launch(gate, up)["out"]
