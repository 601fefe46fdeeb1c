"""The one-launch sum over ranks as the harness knows it: input cases, cost, faults. All ranks are in one launch here,
which runs the code that one rank on each device runs, the exchange included. nvcc compiles it, not Triton."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Cost, Kernel, OpCase
from harness.spec.mutant import Mutant
from models.common.kernels import values
from models.common.kernels.menu_items import NO_ATTENTION, items
from models.common.kernels.mutation import HALF, given
from models.common.parallel import one_shot_all_reduce
from models.common.parallel.joins import AllReduce, sum_parts


def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    def parts(world: int, rows: int, columns: int, of: torch.dtype = dtype) -> dict[str, Any]:
        return {"parts": values.normal((world, rows, columns), of, device, generator), "dtype": dtype}

    yield OpCase("two ranks", parts(2, 2, 96))
    yield OpCase("four ranks, an odd row", parts(4, 1, 33))
    yield OpCase("eight ranks", parts(8, 3, 40))
    yield OpCase("parts in float32", parts(4, 2, 72, torch.float32))
    yield OpCase("more than one word a thread", parts(2, 8, 2100))
    rows, columns = values.length(1, 6, device, generator), values.length(16, 200, device, generator)
    yield OpCase("drawn shape", parts(2, rows, columns))
    case = parts(2, 3, 48)
    torn = case["parts"].clone()
    torn[1, 2] = float("nan")
    yield OpCase("nan row of one rank", {**case, "parts": torn})
    changed = ("small", "offset", "outliers", "subnormal", "ties", "constant")
    yield from items(case, ("parts",), generator, *changed, "transposed", "sliced", "expanded", "misaligned")
    yield from items(case, ("parts",), generator, "near-max", most=0.45)
    yield OpCase("canceling ranks", {**case, "parts": values.canceling((8, 3, 64), dtype, device, generator, 0, 2)})


def cost(parts: Tensor, dtype: torch.dtype) -> Cost:
    """Every part read once and every rank's sum written; what inboxes take is not counted."""
    return Cost(parts.numel() * (parts.element_size() + dtype.itemsize), parts.numel() * (parts.shape[0] - 1))


CAPACITY = 1 << 16
"""Words of the inbox that ranks time with."""
TIMED = ((1, 2560), (1, 5120), (8, 2560), (16, 4096))
"""Rows and columns of the parts that ranks time: of a decode step with one sequence and with several."""


def together(device: torch.device) -> Kernel:
    """As every rank launches it, beside the library's all-reduce."""
    inbox, library = one_shot_all_reduce.Inbox.joined(CAPACITY, device), AllReduce()

    def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for rows, columns in TIMED:
            part = values.normal((rows, columns), torch.float32, device, generator)
            yield OpCase(f"{inbox.world} ranks, {rows} x {columns} in float32", {"part": part, "dtype": dtype})

    return replace(
        ONE_SHOT_ALL_REDUCE,
        launch=lambda part, dtype: {"out": one_shot_all_reduce.all_reduce(part, dtype, inbox)},
        eager=lambda part, dtype: {"out": library(part, dtype)},
        cost=lambda part, dtype: Cost(
            part.numel() * (part.element_size() + dtype.itemsize), part.numel() * (inbox.world - 1)
        ),
        bench=bench,
        # The library's adds in place.
        mutates=("part",),
    )


def _without(rank: int) -> Any:
    def change(inputs: Any) -> dict[str, Tensor]:
        parts = inputs["parts"].clone()
        parts[rank] = 0
        return {"parts": parts}

    return change


def _first_for_all(inputs: Any) -> dict[str, Tensor]:
    return {"parts": inputs["parts"][:1].expand_as(inputs["parts"])}


def _last_row_stale(launch: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
    """Of every rank's sum: ranks are the first axis, and what one has all have."""

    def faulty(**inputs: Any) -> dict[str, Tensor]:
        out = launch(**inputs)["out"].clone()
        out[:, -1] = out[:, -2 if out.shape[1] > 1 else -1]
        return {"out": out}

    return faulty


def _pairs_in_half(launch: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
    """Two ranks' parts added and left in the half type that they came in, then all of them in float32."""

    def faulty(parts: Tensor, dtype: torch.dtype) -> Mapping[str, Tensor]:
        if parts.dtype not in HALF:
            return launch(parts=parts, dtype=dtype)
        pairs = parts.float().unflatten(0, (-1, 2)).sum(1).to(parts.dtype)
        return {"out": pairs.float().sum(0).to(dtype).repeat(len(parts), 1, 1)}

    return faulty


ONE_SHOT_ALL_REDUCE = Kernel(
    name="one_shot_all_reduce",
    launch=one_shot_all_reduce.launch,
    eager=sum_parts,
    cases=cases,
    cost=cost,
    compilations=lambda dtype: (),
    shared_workspace=one_shot_all_reduce.shared,
    multi_rank=together,
    absolute=lambda i: {"parts": i["parts"].abs()},
    inapplicable={**NO_ATTENTION, "far": "an inbox is of few words: what is larger goes another way"},
    mutants=(
        given("first rank's part dropped", "collective", _without(0)),
        given("last rank's part dropped", "collective", _without(-1)),
        given("first rank's part for every rank's", "collective", _first_for_all),
        Mutant("out: last row stale", "stale", _last_row_stale),
        Mutant("partial sums left in a half type", "accumulator", _pairs_in_half),
    ),
    launches=one_shot_all_reduce.launches,
)
