"""Attention through kernels: prefill and split-key decode over pages, and decode steps in one CUDA launch."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Edges, Optimization, Receipt, Target
from harness.spec.parameter import Parameter
from models.common.attention.cluster_attention_cases import CLUSTER_ATTENTION
from models.common.attention.cluster_step import cluster, step_limits
from models.common.attention.decode_attention import MAX_SPLITS
from models.common.attention.decode_attention_cases import DECODE_ATTENTION
from models.common.attention.eager import Attend
from models.common.attention.fused import FlashAttend
from models.common.attention.prefill_attention_cases import PREFILL_ATTENTION
from models.common.attention.tuned_shapes import KERNEL, attention_shapes
from models.common.attention.tuning import attention_tunings
from models.common.decoder.extension import NOTHING, Extension, Swaps, swap_all
from models.common.kernels.launch_shapes import LaunchShapes
from models.common.kernels.workspace import Workspaces

SPLITS = Parameter(
    "max_splits",
    MAX_SPLITS,
    range(1, MAX_SPLITS + 1),
    "Most programs that share one row's keys for one key-value head in a decode step.",
)


def flash_attention(tuned: LaunchShapes, more: Extension = NOTHING) -> Optimization:
    """Swap every Attend for the prefill and decode kernels, launched as `tuned` says, and what `more` names."""

    def apply(model: nn.Module, target: Target, max_splits: int = MAX_SPLITS) -> Receipt:
        workspaces, shapes = Workspaces(), attention_shapes(tuned, target)
        swaps: Swaps = {Attend: lambda m: FlashAttend(m, workspaces, shapes, max_splits)}
        notes = (tuned.note(target.device),) if KERNEL in tuned.kernels and target.kernels == "compiled" else ()
        return Receipt("attention", swap_all(model, swaps, more.swaps), notes)

    return Optimization(
        name="attention",
        summary=more.describe("flash prefill and split-key decode attention over pages"),
        numerics="reordered",
        apply=apply,
        kernels=(PREFILL_ATTENTION, DECODE_ATTENTION, *more.kernels),
        needs=("triton",),
        parameters=(SPLITS,),
        tunings=attention_tunings,
    )


def cluster_attention(rows: int, keys: int) -> Optimization:
    """Take a thread block cluster for each key-value head where a step has up to `rows` sequences, whose cache holds up
    to `keys` tokens: more sequences fill the device without clusters, and more keys are read faster by more blocks than
    a cluster has."""

    limits = step_limits(rows, keys)

    def apply(model: nn.Module, target: Target, rows: int = rows, keys: int = keys) -> Receipt:
        """QK-norm, rotation, cache write and attention of one new token in one launch."""
        note = f"one launch for up to {rows} rows of up to {keys} tokens"
        return Receipt("cuda_kernels", cluster(model, rows, keys), (note,))

    def edges(rows: int = rows, keys: int = keys) -> Edges:
        return {"rows": (rows,), "keys": (keys,)}

    return Optimization(
        name="cuda_kernels",
        summary="decode attention from projections to heads' outputs in one CUDA launch",
        numerics="reordered",
        apply=apply,
        kernels=(CLUSTER_ATTENTION,),
        conflicts=("compile",),
        needs=("clusters", "cuda", "nvcc"),
        parameters=limits,
        edges=edges,
    )
