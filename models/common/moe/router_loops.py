"""What every router kernel does: score a block of experts for one token, and take the best of all scores."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import interpreted
from models.common.kernels.pdl import early_start, prefetch_elements
from models.common.kernels.workspace import Workspace

BLOCK_E, WARPS = 2, 4
MAX_BLOCK_K, MIN_BLOCK_K = 2048, 256
"""A whole row in one step where it fits: one wait for memory instead of many."""
MAX_EXPERTS = 1024


@triton.jit
def score(x_at, weight_ptr, rows, K, BLOCK_E: tl.constexpr, BLOCK_K: tl.constexpr, EVEN_K: tl.constexpr):
    """x [K] times BLOCK_E rows of weight [E, K] -> [BLOCK_E], float32."""
    total = tl.zeros((BLOCK_E, BLOCK_K), tl.float32)
    for chunk in tl.range(0, tl.cdiv(K, BLOCK_K)):
        k = chunk * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        if EVEN_K:
            weight = tl.load(weight_ptr + rows * K + k)
            x = tl.load(x_at + k)
        else:
            weight = tl.load(weight_ptr + rows * K + k, mask=k < K, other=0.0)
            x = tl.load(x_at + k, mask=k < K, other=0.0)
        total += weight.to(tl.float32) * x.to(tl.float32)
    return tl.sum(total, 1)


@triton.jit
def take_best(ranks, SLOTS: tl.constexpr, ALL: tl.constexpr):
    """The places of the SLOTS largest of ranks [ALL], largest first, the lowest place among equals; padded to a power
    of two with 0. Rank and place make one integer that orders as both do, so that a round is a single maximum."""
    every = tl.arange(0, ALL)
    # Minus zero is no less than zero.
    bits = (ranks + 0.0).to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
    left = ordered * ALL + (ALL - 1 - every)
    slots = tl.arange(0, triton.next_power_of_2(SLOTS))
    ids = tl.zeros((triton.next_power_of_2(SLOTS),), tl.int64)
    for slot in tl.static_range(SLOTS):
        top = tl.max(left, 0)
        ids = tl.where(slots == slot, ALL - 1 - (top & (ALL - 1)), ids)
        left = tl.where(left == top, -(1 << 62), left)
    return ids


def needs(tokens: int, experts: int) -> tuple[int, int]:
    """(floats, tickets) of the workspace of one launch."""
    return tokens * experts, tokens


def constants(weight: Tensor) -> dict[str, int]:
    """The compile-time values of one launch over weight [E, K], apart from how many are chosen."""
    experts, k = weight.shape
    block_e = triton.next_power_of_2(experts) if interpreted() else BLOCK_E
    block_k = max(16 if interpreted() else MIN_BLOCK_K, min(MAX_BLOCK_K, k & -k))
    return {
        "BLOCK_E": block_e,
        "BLOCK_K": block_k,
        "ALL": triton.next_power_of_2(experts),
        "EVEN_K": k % block_k == 0,
        "PREFETCH": prefetch_elements(weight) if experts % block_e == 0 else 0,
    }


def check(x: Tensor, weight: Tensor, chosen: int) -> None:
    """Raises ValueError for what these kernels would misread."""
    experts = weight.shape[0]
    if x.stride(-1) != 1 or not weight.is_contiguous() or experts > MAX_EXPERTS or chosen > experts:
        raise ValueError(f"x must be unit-stride, weight contiguous, and {chosen} of {experts} <= {MAX_EXPERTS} chosen")


def launch(
    kernel: Any,
    x: Tensor,
    weight: Tensor,
    chosen: int,
    dtype: torch.dtype,
    workspace: Workspace | None,
    **more: Tensor | float,
) -> dict[str, Tensor]:
    """Launch a router `kernel` over x [N, K] and weight [E, K] and return {"ids": [N, chosen] int64, "weights":
    [N, chosen] in `dtype`}. `more` are the arguments that this kernel has beside those of every one. Raises as `check`
    does."""
    (tokens, k), experts = x.shape, weight.shape[0]
    check(x, weight, chosen)
    workspace = Workspace.of(workspace, *needs(tokens, experts), x.device)
    ids = torch.empty(tokens, chosen, dtype=torch.int64, device=x.device)
    weights = torch.empty(tokens, chosen, dtype=dtype, device=x.device)
    fixed = constants(weight)
    kernel[(triton.cdiv(experts, fixed["BLOCK_E"]), tokens)](
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
        **more,
        **fixed,
        **early_start(x),
        num_warps=WARPS,
    )
    return {"ids": ids, "weights": weights}
