"""Sigmoid scores of all experts, the best few by a corrected score, weighted by the plain one: one kernel for few
tokens. A program scores a block of experts for one token; the last program of a token to arrive chooses."""

from __future__ import annotations

import torch
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
    correction_ptr,
    scale,
    SLOTS: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_K: tl.constexpr,
    ALL: tl.constexpr,
    EVEN_K: tl.constexpr,
    PREFETCH: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (blocks of E, N): x [N, K], weight [E, K], correction [E] -> ids and weights [N, SLOTS]; scores [N, E] and
    tickets [N] are the workspace."""
    start, token = tl.program_id(0) * BLOCK_E, tl.program_id(1)
    experts = start + tl.arange(0, BLOCK_E)
    rows = tl.minimum(experts, E - 1)[:, None]
    if PDL:
        if PREFETCH > 0:
            prefetch_rows(weight_ptr + start * K, K, BLOCK_E, PREFETCH)
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    logits = score(x_ptr + token * stride_x, weight_ptr, rows, K, BLOCK_E, BLOCK_K, EVEN_K)
    scores_at = scores_ptr + token * E
    tl.store(scores_at + experts, 1.0 / (1.0 + exp(-logits)), mask=experts < E)
    tl.debug_barrier()
    arrived = tl.atomic_add(tickets_ptr + token, 1, sem="acq_rel")
    if arrived == tl.num_programs(0) - 1:
        every = tl.arange(0, ALL)
        scores = tl.load(scores_at + every, mask=every < E, other=-float("inf"), cache_modifier=".cg")
        correction = tl.load(correction_ptr + every, mask=every < E, other=0.0)
        ids = take_best(scores + correction, SLOTS, ALL)
        slots = tl.arange(0, triton.next_power_of_2(SLOTS))
        taken = tl.load(scores_at + ids, mask=slots < SLOTS, other=0.0, cache_modifier=".cg")
        weights = taken / (tl.sum(taken, 0) + 1e-20) * scale
        tl.store(ids_ptr + token * SLOTS + slots, ids, mask=slots < SLOTS)
        tl.store(weights_ptr + token * SLOTS + slots, weights, mask=slots < SLOTS)
        tl.store(tickets_ptr + token, 0)


def route(
    x: Tensor, weight: Tensor, correction: Tensor, chosen: int, scale: float, workspace: Workspace | None = None
) -> dict[str, Tensor]:
    """x [N, K], weight [E, K], correction [E] float32 -> {"ids": [N, chosen] int64, largest corrected score first,
    "weights": [N, chosen] float32}."""
    if correction.dtype != torch.float32 or not correction.is_contiguous():
        raise ValueError("the correction must be float32 and contiguous: rounded, it would choose other experts")
    more: dict[str, Tensor | float] = {"correction_ptr": correction, "scale": scale}
    return router_loops.launch(router_kernel, x, weight, chosen, torch.float32, workspace, **more)
