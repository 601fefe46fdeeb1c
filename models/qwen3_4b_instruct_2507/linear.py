"""Which projections share an input, and are read as one matrix."""

from __future__ import annotations

from torch import nn

from harness.spec import Receipt, Target
from models.common.linear import PackedLinear, PackedQKV, SplitQKV
from models.common.mlp import SplitGateUp
from models.common.swap import swap


def pack(model: nn.Module, target: Target) -> Receipt:
    """q, k and v become one matrix, gate and up another."""
    qkv = swap(model, SplitQKV, lambda m: PackedQKV(PackedLinear([m.q_proj, m.k_proj, m.v_proj]), m.head_dim))
    gate_up = swap(model, SplitGateUp, lambda m: PackedLinear([m.gate_proj, m.up_proj]))
    return Receipt("linear", qkv + gate_up, ("packed qkv and gate-up",))
