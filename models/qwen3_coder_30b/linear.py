"""Which projections share an input and are read as one matrix, and which take the decode kernels."""

from __future__ import annotations

from torch import nn

from harness.spec import Optimization, Receipt, Target
from models.common.kernels.early import offers
from models.common.kernels.gemv import default_shape, interpreted_shape
from models.common.kernels.gemv_cases import GEMV
from models.common.linear import PackedLinear, PackedQKV, SplitQKV
from models.common.skinny import Shapes, stream
from models.common.swap import swap
from models.qwen3_coder_30b.kernels.launch_shapes import h200_shape

ROWS = 16
"""Activation rows up to which the decode kernels are used."""


def launch_shapes(target: Target) -> Shapes:
    if target.kernels == "interpreted":
        return interpreted_shape
    return h200_shape if offers(target.device) else default_shape


def pack(model: nn.Module, target: Target) -> Receipt:
    """q, k, v become one matrix; where Triton runs, decode steps stream it, the output projection and the head."""
    touched = swap(model, SplitQKV, lambda m: PackedQKV(PackedLinear([m.q_proj, m.k_proj, m.v_proj]), m.head_dim))
    if target.kernels == "none":
        return Receipt("linear", touched, ("packed qkv; no Triton in this process, so no decode kernels",))
    touched += stream(model, ROWS, launch_shapes(target))
    return Receipt("linear", touched, (f"packed qkv; decode kernels up to {ROWS} rows",))


LINEAR = Optimization(
    name="linear",
    summary="q, k, v in one matrix; decode steps stream the weights",
    numerics="reordered",
    apply=pack,
    kernels=(GEMV,),
)
