"""Projections that share an input read as one matrix, and decode steps that stream the weights."""

from __future__ import annotations

from torch import nn

from harness.spec.kernel import Kernel
from harness.spec.optimization import Edges, Optimization, Receipt, Target
from models.common.kernels.launch_shapes import LaunchShapes
from models.common.linear.eager import pack_neighbors
from models.common.linear.gemv import row_edges
from models.common.linear.skinny import max_rows, stream
from models.common.linear.tuned_shapes import product_shapes
from models.common.linear.tuning import product_tunings


def packed_linear(rows: int, packed: str, kernels: tuple[Kernel, ...], tuned: LaunchShapes) -> Optimization:
    """Pack the neighbors that `packed` names in words. Where Triton runs, every gated block, packed projection and
    linear layer goes through `kernels` up to `rows` activation rows, launched as `tuned` says."""

    def apply(model: nn.Module, target: Target, rows: int = rows) -> Receipt:
        touched = pack_neighbors(model)
        if target.kernels == "none":
            return Receipt("linear", touched, (f"packed {packed}; no Triton in this process, so no decode kernels",))
        touched += stream(model, rows, product_shapes(tuned, target))
        notes: tuple[str, ...] = (f"packed {packed}; decode kernels up to {rows} rows",)
        return Receipt(
            "linear", touched, notes if target.kernels == "interpreted" else (*notes, tuned.note(target.device))
        )

    def edges(rows: int = rows) -> Edges:
        return {"rows": row_edges(rows)}

    return Optimization(
        name="linear",
        summary=f"packed {packed}; decode steps stream the weights",
        numerics="reordered",
        apply=apply,
        kernels=kernels,
        parameters=(max_rows(rows),),
        edges=edges,
        tunings=lambda model, dtype: product_tunings(model, dtype, rows),
    )
