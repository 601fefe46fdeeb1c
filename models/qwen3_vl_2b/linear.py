"""Which projections share an input and are read as one matrix, and which take the decode kernels."""

from __future__ import annotations

from torch import nn

from harness.spec import Optimization, Receipt, Target
from models.common.kernels.gemv import default_shape, interpreted_shape
from models.common.kernels.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.linear import PackedLinear, PackedQKV, SplitQKV
from models.common.mlp import SplitGateUp
from models.common.skinny import Shapes, stream
from models.common.swap import swap

ROWS = 16
"""Activation rows up to which the decode kernels are at least as fast as cuBLAS, by the sweep on an H200."""


def launch_shapes(target: Target) -> Shapes:
    return interpreted_shape if target.kernels == "interpreted" else default_shape


def pack(model: nn.Module, target: Target) -> Receipt:
    """q, k, v become one matrix, gate and up another; where Triton runs, decode steps stream them and every other
    linear layer."""
    touched = swap(model, SplitQKV, lambda m: PackedQKV(PackedLinear([m.q_proj, m.k_proj, m.v_proj]), m.head_dim))
    touched += swap(model, SplitGateUp, lambda m: PackedLinear([m.gate_proj, m.up_proj]))
    if target.kernels == "none":
        return Receipt("linear", touched, ("packed qkv and gate-up; no Triton in this process, so no decode kernels",))
    touched += stream(model, ROWS, launch_shapes(target))
    return Receipt("linear", touched, (f"packed qkv and gate-up; decode kernels up to {ROWS} rows",))


LINEAR = Optimization(
    name="linear",
    summary="q, k, v in one matrix, gate, up in another; decode steps stream the weights",
    numerics="reordered",
    apply=pack,
    kernels=(GEMV, GEMV_SWIGLU),
)
