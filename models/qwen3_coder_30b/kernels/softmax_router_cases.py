"""The softmax router as the harness knows it. Which experts are chosen is judged exactly, so all rows have best
scores that lie further apart than the rounding of either side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.kernels import values
from models.common.kernels.menu_items import items
from models.common.kernels.mutation import given
from models.common.kernels.types import pointer
from models.common.kernels.workspace import shared
from models.common.moe import router_loops
from models.common.moe.router_cases import DRAWN, INAPPLICABLE, all_alike, near_one
from models.qwen3_coder_30b.kernels import softmax_router
from models.qwen3_coder_30b.router import softmax_choice

GAP = 0.06
"""Least distance between neighbors among the best scores of a row up to NEAR, and in proportion above it: several
roundings of a bfloat16 score."""
NEAR = 4.0
BATCH = 256
SHAPES = ((1, 2, 5, 64), (3, 8, 32, 256), (17, 4, 16, 96), (2, 8, 128, 320))
"""(tokens, chosen, experts, hidden)."""


def apart(
    tokens: int, weight: Tensor, chosen: int, generator: torch.Generator, draw: Callable[..., Tensor] = values.normal
) -> Tensor:
    """x [tokens, H], of what `draw` makes, whose `chosen` + 1 best scores are at least GAP apart."""
    kept: list[Tensor] = []
    while sum(len(rows) for rows in kept) < tokens:
        x = draw((BATCH, weight.shape[1]), weight.dtype, weight.device, generator)
        best = F.linear(x.double(), weight.double()).topk(min(chosen + 1, weight.shape[0]), dim=-1).values
        least = GAP * (best.abs().amax(-1) / NEAR).clamp_min(1)
        kept.append(x[(best[:, :-1] - best[:, 1:]).amin(-1) > least])
    return torch.cat(kept)[:tokens].contiguous()


def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    drawn = tuple(values.length(*ends, device, generator) for ends in ((4, 9), (1, 4), (6, 40), (64, 300)))
    for tokens, chosen, bank, hidden in (*SHAPES, drawn):
        weight = values.normal((bank, hidden), dtype, device, generator, scale=2 * hidden**-0.5)
        x = apart(tokens, weight, chosen, generator)
        yield OpCase(f"{tokens} tokens, {chosen} of {bank}", {"x": x, "weight": weight, "chosen": chosen})
        if tokens == 3:
            peaked = apart(tokens, weight, chosen, generator, partial(values.normal, scale=3.0))
            yield OpCase("peaky", {"x": peaked, "weight": weight, "chosen": chosen})
            yield OpCase("misaligned", {"x": values.misaligned(x), "weight": weight, "chosen": chosen})
            yield OpCase("sliced", {"x": values.sliced(x), "weight": weight, "chosen": chosen})
            low = weight - 0.08
            below = apart(tokens, low, chosen, generator, partial(values.normal, offset=1.0))
            yield OpCase("every score below zero", {"x": below, "weight": low, "chosen": chosen})
            equal = weight.clone()
            equal[1::2] = equal[0::2]
            some = apart(2, equal[0::2].contiguous(), chosen // 2, generator)
            yield OpCase("ties: pairs of equal experts", {"x": some, "weight": equal, "chosen": chosen})
    weight = values.normal((6, 64), dtype, device, generator, scale=2 * 64**-0.5)
    for name, draw in DRAWN.items():
        yield OpCase(name, {"x": apart(3, weight, 1, generator, draw), "weight": weight, "chosen": 1})
    case: dict[str, Any] = {"x": apart(3, weight, 1, generator), "weight": weight, "chosen": 1}
    yield from items(case, ("x",), generator, "expanded")
    one_sided = near_one(6, 64, dtype, device, generator)
    canceling = apart(4, one_sided, 1, generator, values.canceling)
    yield OpCase("canceling", {"x": canceling, "weight": one_sided, "chosen": 1})
    yield OpCase("constant", {**case, **all_alike(case["x"], weight, generator), "chosen": 3})


def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for tokens in (1, 32):
        weight = values.normal((128, 2048), dtype, device, generator, scale=2 * 2048**-0.5)
        x = apart(tokens, weight, 8, generator)
        yield OpCase(f"B{tokens}, 8 of 128", {"x": x, "weight": weight, "chosen": 8})


def cost(x: Tensor, weight: Tensor, chosen: int) -> Cost:
    return Cost((x.numel() + weight.numel()) * x.element_size(), 2 * x.shape[0] * weight.numel())


def compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    signature = dict.fromkeys(("x_ptr", "weight_ptr", "weights_ptr"), pointer(dtype))
    signature |= {"ids_ptr": "*i64", "scores_ptr": "*fp32", "tickets_ptr": "*i32"}
    signature |= dict.fromkeys(("E", "K", "stride_x"), "i32")
    fixed = {**router_loops.constants(torch.empty(128, 2048, dtype=dtype)), "SLOTS": 8, "PDL": True}
    return (Compilation(softmax_router.router_kernel, signature, fixed, router_loops.WARPS),)


SOFTMAX_ROUTER = Kernel(
    name="softmax_router",
    launch=softmax_router.route,
    shared_workspace=shared,
    eager=softmax_choice,
    cases=cases,
    cost=cost,
    compilations=compilations,
    bench=bench,
    batch_invariant=("x",),
    inapplicable=INAPPLICABLE,
    mutants=(
        given("experts in reverse", "expert", lambda i: {"weight": i["weight"].flip(0)}),
        given("tokens exchanged", "expert", lambda i: {"x": i["x"].flip(0)}),
    ),
)
