"""Scores of all experts, the best few of them, and their weights made to sum to 1: one kernel for few tokens.

A program scores a block of experts for one token; the last program of a token to arrive chooses, by as many rounds of
maximum as there are slots, ties to the lower index. Scores stay in float32, where separate operations would round them.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import exp
from models.common.kernels.pdl import prefetch_rows
from models.common.kernels.workspace import Workspace
from models.common.moe import router_loops
from models.common.moe.router_loops import score, take_best


@triton.jit
def router_kernel(
    x_ptr,
    weight_ptr,
    ids_ptr,
    weights_ptr,
    scores_ptr,
    tickets_ptr,
    E,
    K,
    stride_x,
    SLOTS: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_K: tl.constexpr,
    ALL: tl.constexpr,
    EVEN_K: tl.constexpr,
    PREFETCH: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (blocks of E, N): x [N, K], weight [E, K] -> ids and weights [N, SLOTS]; scores [N, E] and tickets [N] are
    the workspace."""
    start, token = tl.program_id(0) * BLOCK_E, tl.program_id(1)
    experts = start + tl.arange(0, BLOCK_E)
    rows = tl.minimum(experts, E - 1)[:, None]
    if PDL:
        if PREFETCH > 0:
            prefetch_rows(weight_ptr + start * K, K, BLOCK_E, PREFETCH)
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    found = score(x_ptr + token * stride_x, weight_ptr, rows, K, BLOCK_E, BLOCK_K, EVEN_K)
    scores_at = scores_ptr + token * E
    tl.store(scores_at + experts, found, mask=experts < E)
    tl.debug_barrier()
    arrived = tl.atomic_add(tickets_ptr + token, 1, sem="acq_rel")
    if arrived == tl.num_programs(0) - 1:
        every = tl.arange(0, ALL)
        scores = tl.load(scores_at + every, mask=every < E, other=-float("inf"), cache_modifier=".cg")
        ids = take_best(scores, SLOTS, ALL)
        slots = tl.arange(0, triton.next_power_of_2(SLOTS))
        best = tl.load(scores_at + ids, mask=slots < SLOTS, other=-float("inf"), cache_modifier=".cg")
        share = exp(best - tl.max(best, 0))
        share = tl.where(slots < SLOTS, share, 0.0)
        share = share / tl.sum(share, 0)
        tl.store(ids_ptr + token * SLOTS + slots, ids, mask=slots < SLOTS)
        tl.store(weights_ptr + token * SLOTS + slots, share.to(weights_ptr.dtype.element_ty), mask=slots < SLOTS)
        tl.store(tickets_ptr + token, 0)


def route(x: Tensor, weight: Tensor, chosen: int, workspace: Workspace | None = None) -> dict[str, Tensor]:
    """x [N, K], weight [E, K] -> {"ids": [N, chosen] int64, "weights": [N, chosen] in x's dtype}, largest first."""
    return router_loops.launch(router_kernel, x, weight, chosen, x.dtype, workspace)
