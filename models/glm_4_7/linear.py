"""Which projections share an input and are read as one matrix, and which take the decode kernels."""

from __future__ import annotations

from torch import nn

from harness.spec import Optimization, Receipt, Target
from models.common.kernels.early import offers
from models.common.kernels.gemv import default_shape, interpreted_shape
from models.common.kernels.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.linear import pack_neighbors
from models.common.skinny import Shapes, stream
from models.glm_4_7.kernels.launch_shapes import h200_shape

ROWS = 16
"""Activation rows up to which the decode kernels are used."""


def launch_shapes(target: Target) -> Shapes:
    if target.kernels == "interpreted":
        return interpreted_shape
    return h200_shape if offers(target.device) else default_shape


def pack(model: nn.Module, target: Target) -> Receipt:
    """q, k, v become one matrix, gate and up another; where Triton runs, decode steps stream them and every other
    linear layer."""
    touched = pack_neighbors(model)
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
