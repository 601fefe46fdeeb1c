"""Which projections share an input and are read as one matrix, and which take the decode kernels."""

from __future__ import annotations

from torch import nn

from harness.spec import Receipt, Target
from models.common.kernels.early import offers
from models.common.kernels.gemv import default_shape, interpreted_shape
from models.common.linear import PackedLinear, PackedQKV, SplitQKV
from models.common.mlp import SplitGateUp, SwiGLU
from models.common.skinny import Shapes, SkinnyLinear, SkinnyPacked, SkinnySwiGLU, gemv_workspace
from models.common.swap import swap
from models.qwen3_4b_instruct_2507.kernels.launch_shapes import h200_shape

ROWS = 16
"""Activation rows up to which the decode kernels are at least as fast as cuBLAS, by the sweep on an H200."""


def launch_shapes(target: Target) -> Shapes:
    if target.kernels == "interpreted":
        return interpreted_shape
    return h200_shape if offers(target.device) else default_shape


def pack(model: nn.Module, target: Target) -> Receipt:
    """q, k and v become one matrix, gate and up another. Where Triton runs, these and the output projections read
    their weights through the decode kernels up to ROWS rows, silu and its product in the kernel of gate and up."""
    touched = swap(model, SplitQKV, lambda m: PackedQKV(PackedLinear([m.q_proj, m.k_proj, m.v_proj]), m.head_dim))
    touched += swap(model, SplitGateUp, lambda m: PackedLinear([m.gate_proj, m.up_proj]))
    if target.kernels == "none":
        return Receipt("linear", touched, ("packed qkv and gate-up; no Triton in this process, so no decode kernels",))
    weights = [m.weight for m in model.modules() if isinstance(m, PackedLinear | nn.Linear)]
    shapes = launch_shapes(target)
    workspace = gemv_workspace(weights, ROWS, shapes)
    touched += swap(model, SwiGLU, lambda m: SkinnySwiGLU(m, ROWS, workspace, shapes))
    touched += swap(model, PackedLinear, lambda m: SkinnyPacked(m, ROWS, workspace, shapes))
    touched += swap(model, nn.Linear, lambda m: SkinnyLinear(m, ROWS, workspace, shapes))
    return Receipt("linear", touched, (f"packed qkv and gate-up; decode kernels up to {ROWS} rows",))
