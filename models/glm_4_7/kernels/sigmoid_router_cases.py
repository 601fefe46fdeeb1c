"""The sigmoid router as the harness knows it. Which experts are chosen is judged exactly, so all rows have best
corrected scores that lie further apart than the rounding of either side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.kernels import values
from models.common.kernels.menu_items import NO_SOFTMAX, items
from models.common.kernels.mutation import given, scaled
from models.common.kernels.types import pointer
from models.common.kernels.workspace import shared
from models.common.moe import router_loops
from models.common.moe.router_cases import DRAWN, INAPPLICABLE, all_alike, near_one
from models.glm_4_7.kernels import sigmoid_router
from models.glm_4_7.router import sigmoid_choice

GAP = 2e-4
"""Least distance between neighbors among the best corrected scores of a row: scores are float32, below 1."""
BATCH = 256
SCALE = 2.5
SHAPES = ((1, 2, 5, 64), (3, 8, 32, 256), (17, 4, 16, 96), (2, 8, 160, 320))
"""(tokens, chosen, experts, hidden)."""
REAL = (160, 8, 5120)
"""(experts, chosen, hidden) of GLM-4.7."""


def apart(
    tokens: int,
    weight: Tensor,
    correction: Tensor,
    chosen: int,
    generator: torch.Generator,
    draw: Callable[..., Tensor] = values.normal,
) -> Tensor:
    """x [tokens, H], of what `draw` makes, whose `chosen` + 1 best corrected scores are at least GAP apart."""
    kept: list[Tensor] = []
    while sum(len(rows) for rows in kept) < tokens:
        x = draw((BATCH, weight.shape[1]), weight.dtype, weight.device, generator)
        scores = (x.double() @ weight.double().t()).sigmoid() + correction.double()
        best = scores.topk(min(chosen + 1, weight.shape[0]), dim=-1).values
        kept.append(x[(best[:, :-1] - best[:, 1:]).amin(-1) > GAP])
    return torch.cat(kept)[:tokens].contiguous()


def _bank(
    bank: int, hidden: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    weight = values.normal((bank, hidden), dtype, device, generator, scale=2 * hidden**-0.5)
    return weight, values.normal((bank,), torch.float32, device, generator, scale=0.1)


def _overruled(x: Tensor, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Scores of about 1e-5 under corrections near 7, as trained models have: those alone choose, and what is left of a
    score once one was added to it and taken away again is another."""
    asked, low = x.clone(), weight.clone()
    asked[:, 0], low[:, 0] = 1.0, -12.0
    order = torch.randperm(len(weight), generator=generator, device=x.device)
    return {"x": asked, "weight": low, "correction": torch.linspace(6.5, 7.5, len(weight), device=x.device)[order]}


def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    drawn = tuple(values.length(*ends, device, generator) for ends in ((4, 9), (1, 4), (6, 40), (64, 300)))
    for tokens, chosen, bank, hidden in (*SHAPES, drawn):
        weight, correction = _bank(bank, hidden, dtype, device, generator)
        x = apart(tokens, weight, correction, chosen, generator)
        inputs = {"x": x, "weight": weight, "correction": correction, "chosen": chosen, "scale": SCALE}
        yield OpCase(f"{tokens} tokens, {chosen} of {bank}", inputs)
        if tokens > 1:
            # Also where a power of two holds more places than there are experts.
            yield OpCase(f"{bank} experts, every one below zero", {**inputs, "correction": correction - 2})
        if tokens == 3:
            yield OpCase("misaligned", {**inputs, "x": values.misaligned(x)})
            yield OpCase("sliced", {**inputs, "x": values.sliced(x)})
            yield OpCase("scores that corrections overrule", {**inputs, **_overruled(x, weight, generator)})
            equal, level = weight.clone(), correction.clone()
            equal[1::2], level[1::2] = equal[0::2], level[0::2]
            some = apart(2, equal[0::2].contiguous(), level[0::2], chosen // 2, generator)
            yield OpCase("ties: pairs of equal experts", {**inputs, "x": some, "weight": equal, "correction": level})
    weight, correction = _bank(6, 64, dtype, device, generator)
    case: dict[str, Any] = {"weight": weight, "correction": correction, "chosen": 1, "scale": SCALE}
    for name, draw in DRAWN.items():
        yield OpCase(name, {**case, "x": apart(3, weight, correction, 1, generator, draw)})
    case["x"] = apart(3, weight, correction, 1, generator)
    yield from items(case, ("x",), generator, "expanded")
    one_sided = near_one(6, 64, dtype, device, generator)
    yield OpCase(
        "canceling", {**case, "x": apart(4, one_sided, correction, 1, generator, values.canceling), "weight": one_sided}
    )
    level = torch.full_like(correction, 0.25)
    yield OpCase("constant", {**case, **all_alike(case["x"], weight, generator), "correction": level, "chosen": 3})


def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    bank, chosen, hidden = REAL
    for tokens in (1, 32):
        weight, correction = _bank(bank, hidden, dtype, device, generator)
        x = apart(tokens, weight, correction, chosen, generator)
        inputs = {"x": x, "weight": weight, "correction": correction, "chosen": chosen, "scale": SCALE}
        yield OpCase(f"B{tokens}, {chosen} of {bank}", inputs)


def cost(x: Tensor, weight: Tensor, correction: Tensor, chosen: int, scale: float) -> Cost:
    return Cost((x.numel() + weight.numel()) * x.element_size(), 2 * x.shape[0] * weight.numel())


def compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    bank, chosen, hidden = REAL
    signature = dict.fromkeys(("x_ptr", "weight_ptr"), pointer(dtype))
    signature |= dict.fromkeys(("correction_ptr", "weights_ptr", "scores_ptr"), "*fp32")
    signature |= {"ids_ptr": "*i64", "tickets_ptr": "*i32", "scale": "fp32"}
    signature |= dict.fromkeys(("E", "K", "stride_x"), "i32")
    fixed = {**router_loops.constants(torch.empty(bank, hidden, dtype=dtype)), "SLOTS": chosen, "PDL": True}
    return (Compilation(sigmoid_router.router_kernel, signature, fixed, router_loops.WARPS),)


SIGMOID_ROUTER = Kernel(
    name="sigmoid_router",
    launch=sigmoid_router.route,
    shared_workspace=shared,
    eager=sigmoid_choice,
    cases=cases,
    cost=cost,
    compilations=compilations,
    bench=bench,
    batch_invariant=("x",),
    inapplicable={**INAPPLICABLE, **NO_SOFTMAX},
    mutants=(
        given("correction ignored", "expert", lambda i: {"correction": torch.zeros_like(i["correction"])}),
        given("correction of other experts", "expert", lambda i: {"correction": i["correction"].roll(1)}),
        given("correction at half", "expert", lambda i: {"correction": i["correction"] * 0.5}),
        given("not scaled", "scale", lambda i: {"scale": 1.0}),
        scaled("scale", 1.001, "scale off by 0.1 %", "scale"),
        given("experts in reverse", "expert", lambda i: {"weight": i["weight"].flip(0)}),
        given("tokens exchanged", "expert", lambda i: {"x": i["x"].flip(0)}),
    ),
)
