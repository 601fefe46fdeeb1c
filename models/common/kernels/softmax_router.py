"""Scores of all experts, the best few of them, and their weights made to sum to 1: one kernel for few tokens.

A program scores a block of experts for one token; the last program of a token to arrive chooses, by as many rounds of
maximum as there are slots, ties to the lower index. Scores stay in float32, where separate operations would round them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import exp, interpreted
from models.common.kernels.early import early_start
from models.common.kernels.workspace import Workspace

BLOCK_E, BLOCK_K, WARPS = 2, 2048, 4
MAX_EXPERTS = 1024


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
    PDL: tl.constexpr,
):
    """Grid (blocks of E, N): x [N, K], weight [E, K] -> ids and weights [N, SLOTS]; scores [N, E] and tickets [N] are
    the workspace."""
    start, token = tl.program_id(0) * BLOCK_E, tl.program_id(1)
    experts = start + tl.arange(0, BLOCK_E)
    rows = tl.minimum(experts, E - 1)[:, None]
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((BLOCK_E, BLOCK_K), tl.float32)
    for chunk in tl.range(0, tl.cdiv(K, BLOCK_K)):
        k = chunk * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        if EVEN_K:
            weight = tl.load(weight_ptr + rows * K + k)
            x = tl.load(x_ptr + token * stride_x + k)
        else:
            weight = tl.load(weight_ptr + rows * K + k, mask=k < K, other=0.0)
            x = tl.load(x_ptr + token * stride_x + k, mask=k < K, other=0.0)
        total += weight.to(tl.float32) * x.to(tl.float32)
    scores_at = scores_ptr + token * E
    tl.store(scores_at + experts, tl.sum(total, 1), mask=experts < E)
    tl.debug_barrier()
    arrived = tl.atomic_add(tickets_ptr + token, 1, sem="acq_rel")
    if arrived == tl.num_programs(0) - 1:
        every = tl.arange(0, ALL)
        scores = tl.load(scores_at + every, mask=every < E, other=-float("inf"), cache_modifier=".cg")
        # Score and index in one integer that orders as the score does, lower indices first: one maximum a round.
        bits = scores.to(tl.int32, bitcast=True)
        ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
        left = ordered * ALL + (ALL - 1 - every)
        slots = tl.arange(0, triton.next_power_of_2(SLOTS))
        ids = tl.zeros((triton.next_power_of_2(SLOTS),), tl.int64)
        for slot in tl.static_range(SLOTS):
            top = tl.max(left, 0)
            ids = tl.where(slots == slot, ALL - 1 - (top & (ALL - 1)), ids)
            left = tl.where(left == top, -(1 << 62), left)
        best = tl.load(scores_at + ids, mask=slots < SLOTS, other=-float("inf"), cache_modifier=".cg")
        share = exp(best - tl.max(best, 0))
        share = tl.where(slots < SLOTS, share, 0.0)
        share = share / tl.sum(share, 0)
        tl.store(ids_ptr + token * SLOTS + slots, ids, mask=slots < SLOTS)
        tl.store(weights_ptr + token * SLOTS + slots, share.to(weights_ptr.dtype.element_ty), mask=slots < SLOTS)
        tl.store(tickets_ptr + token, 0)


def needs(tokens: int, experts: int) -> tuple[int, int]:
    """(floats, tickets) of the workspace of one launch."""
    return tokens * experts, tokens


def route(x: Tensor, weight: Tensor, chosen: int, workspace: Workspace | None = None) -> dict[str, Tensor]:
    """x [N, K], weight [E, K] -> {"ids": [N, chosen] int64, "weights": [N, chosen] in x's dtype}, largest first."""
    (tokens, k), experts = x.shape, weight.shape[0]
    if x.stride(-1) != 1 or not weight.is_contiguous() or experts > MAX_EXPERTS or chosen > experts:
        raise ValueError(f"x must be unit-stride, weight contiguous, and {chosen} of {experts} <= {MAX_EXPERTS} chosen")
    size = needs(tokens, experts)
    workspace = workspace or Workspace.allocate(*size, x.device)
    workspace.require(*size)
    ids = torch.empty(tokens, chosen, dtype=torch.int64, device=x.device)
    weights = torch.empty(tokens, chosen, dtype=x.dtype, device=x.device)
    fixed = constants(experts, k)
    router_kernel[(triton.cdiv(experts, fixed["BLOCK_E"]), tokens)](
        x,
        weight,
        ids,
        weights,
        workspace.partials,
        workspace.tickets,
        experts,
        k,
        x.stride(0),
        SLOTS=chosen,
        **fixed,
        **early_start(x),
        num_warps=WARPS,
    )
    return {"ids": ids, "weights": weights}


def constants(experts: int, k: int) -> dict[str, int]:
    block_e = triton.next_power_of_2(experts) if interpreted() else BLOCK_E
    block_k = max(16, min(1024, k & -k)) if interpreted() else min(BLOCK_K, triton.next_power_of_2(k))
    return {"BLOCK_E": block_e, "BLOCK_K": block_k, "ALL": triton.next_power_of_2(experts), "EVEN_K": k % block_k == 0}
