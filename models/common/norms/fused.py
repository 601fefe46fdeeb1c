"""RMSNorm with the residual addition before it, one kernel launch."""

from __future__ import annotations

from torch import Tensor, nn

from models.common.norms import rms_norm
from models.common.norms.eager import AddRMSNorm


class FusedAddRMSNorm(nn.Module):
    """As AddRMSNorm."""

    def __init__(self, norm: AddRMSNorm) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.eps

    def forward(self, delta: Tensor | None, residual: Tensor) -> tuple[Tensor, Tensor]:
        if delta is None:
            return rms_norm.launch_norm(residual, self.weight, self.eps)["normed"], residual
        done = rms_norm.launch_add_norm(delta, residual, self.weight, self.eps)
        return done["normed"], done["residual"]
