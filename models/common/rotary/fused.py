"""QK-norm, rotation and cache write, one kernel launch."""

from __future__ import annotations

from torch import Tensor, nn

from models.common.attention.eager import NormRotateWrite, rms_norms
from models.common.cache.kv_cache import LayerCache, Slots
from models.common.rotary import norm_rotate_write


class FusedNormRotateWrite(nn.Module):
    """As NormRotateWrite."""

    def __init__(self, eager: NormRotateWrite) -> None:
        super().__init__()
        self.q_norm, self.k_norm = rms_norms(eager)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots
    ) -> Tensor:
        return norm_rotate_write.launch(
            q,
            k,
            v,
            self.q_norm.weight,
            self.k_norm.weight,
            cos,
            sin,
            cache.keys,
            cache.values,
            slots.block_table,
            slots.seq_lens,
            self.q_norm.eps,
        )["q"]


class FusedRotateWrite(nn.Module):
    """As NormRotateWrite of a model that norms no head. Raises ValueError for one that does."""

    def __init__(self, eager: NormRotateWrite) -> None:
        super().__init__()
        if any(type(norm) is not nn.Identity for norm in (eager.q_norm, eager.k_norm)):
            raise ValueError("this kernel norms no head, and the model does: its norms would be lost")

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots
    ) -> Tensor:
        pages = (cache.keys, cache.values, slots.block_table, slots.seq_lens)
        return norm_rotate_write.launch_rotate(q, k, v, cos, sin, *pages)["q"]
