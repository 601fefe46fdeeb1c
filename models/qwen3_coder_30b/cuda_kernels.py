"""What CUDA C++ does that Triton cannot: which decode steps take a thread block cluster for each key-value head."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.attention.cluster_attention_cases import CLUSTER_ATTENTION
from models.common.attention.cluster_step import cluster, step_limits

ROWS = 1
"""Sequences up to which a step is one launch; more fill the device without clusters."""
KEYS = 4096
"""Keys that a cache may hold for that: past these, more blocks than a cluster has read them faster."""


def launch_once(model: nn.Module, target: Target, rows: int = ROWS, keys: int = KEYS) -> Receipt:
    """QK-norm, rotation, cache write and attention of one new token in one launch."""
    note = f"one launch for up to {rows} rows of up to {keys} tokens"
    return Receipt("cuda_kernels", cluster(model, rows, keys), (note,))


CUDA_KERNELS = Optimization(
    name="cuda_kernels",
    summary="decode attention from projections to heads' outputs in one CUDA launch",
    numerics="reordered",
    apply=launch_once,
    kernels=(CLUSTER_ATTENTION,),
    conflicts=("compile",),
    needs=("clusters", "cuda", "nvcc"),
    parameters=step_limits(ROWS, KEYS),
)
