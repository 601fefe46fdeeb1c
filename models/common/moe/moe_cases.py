"""The mixture-of-experts kernels as the harness knows them: input menus, costs, compilations, real shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.kernels import values
from models.common.kernels.menu_items import NO_ATTENTION, PLAIN_ROWS
from models.common.kernels.mutation import Inputs, given
from models.common.kernels.types import pointer
from models.common.linear.gemv_cases import absolute
from models.common.moe import eager, moe_combine, moe_tiles, moe_vector
from models.common.moe.moe_inputs import (
    Draw,
    bank_of,
    combine_cases,
    down_cases,
    far_experts,
    few_down,
    few_gate_up,
    gate_up_cases,
    shares,
    spread,
)

Bank = tuple[int, int, int, int]
"""(experts, chosen, hidden, intermediate)."""
SMALL, LARGE = (128, 8, 2048, 768), (160, 8, 5120, 1536)
"""Qwen3-Coder-30B, whose weights have the model's type; GLM-4.7, whose weights are float32."""


def _bench(rows: Sequence[int], build: Callable[[Bank, int, Draw], dict[str, Tensor]]) -> Any:
    def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for bank, tokens in product((SMALL, LARGE), rows):
            yield OpCase(f"B{tokens}, {bank[1]} of {bank[0]}", build(bank, tokens, (dtype, device, generator)))

    return bench


def _real_gate_up(sizes: Bank, tokens: int, draw: Draw) -> dict[str, Tensor]:
    bank, chosen, hidden, size = sizes
    ids = spread(tokens, chosen, bank, *draw[1:])
    return {"x": values.normal((tokens, hidden), *draw), "ids": ids, "gate_up": bank_of(2 * size, hidden, bank, draw)}


def _real_down(sizes: Bank, tokens: int, draw: Draw) -> dict[str, Tensor]:
    bank, chosen, hidden, size = sizes
    ids = spread(tokens, chosen, bank, *draw[1:])
    return {"x": values.normal((tokens * chosen, size), *draw), "ids": ids, "down": bank_of(hidden, size, bank, draw)}


def _real_weights(sizes: Bank, tokens: int, draw: Draw) -> Tensor:
    dtype, device, generator = draw
    return shares(tokens, sizes[1], (torch.float32 if sizes is LARGE else dtype, device, generator))


def _real_weighted(sizes: Bank, tokens: int, draw: Draw) -> dict[str, Tensor]:
    return {**_real_down(sizes, tokens, draw), "weights": _real_weights(sizes, tokens, draw)}


def _real_combine(sizes: Bank, tokens: int, draw: Draw) -> dict[str, Tensor]:
    _, chosen, hidden, _ = sizes
    places = torch.randperm(tokens * chosen, device=draw[1], generator=draw[2])
    x = values.normal((tokens * chosen, hidden), *draw)
    return {"projected": x, "places": places, "weights": _real_weights(sizes, tokens, draw)}


def gate_up_cost(x: Tensor, ids: Tensor, gate_up: Tensor) -> Cost:
    """The rows of the experts that these tokens visit, each read once."""
    _, rows, k = gate_up.shape
    moved = int(ids.unique().numel()) * rows * k + x.numel() + ids.numel() * rows // 2
    return Cost(moved * x.element_size(), 2 * ids.numel() * rows * k)


def down_cost(x: Tensor, ids: Tensor, down: Tensor, weights: Tensor | None = None) -> Cost:
    _, rows, k = down.shape
    written = (ids.numel() if weights is None else ids.shape[0]) * rows
    moved = int(ids.unique().numel()) * rows * k + x.numel() + written
    return Cost(moved * x.element_size(), 2 * ids.numel() * rows * k)


def combine_cost(projected: Tensor, places: Tensor, weights: Tensor) -> Cost:
    tokens = weights.shape[0]
    return Cost((projected.numel() + tokens * projected.shape[1]) * projected.element_size(), 2 * projected.numel())


def _over_banks(one: Callable[[Bank, str, torch.dtype], Compilation]) -> Callable[[torch.dtype], Sequence[Compilation]]:
    """`one` for both banks, given the type of their weights."""
    return lambda dtype: (one(SMALL, pointer(dtype), dtype), one(LARGE, pointer(torch.float32), dtype))


def _vector_compilation(down: bool) -> Callable[[Bank, str, torch.dtype], Compilation]:
    def compilation(sizes: Bank, weights: str, dtype: torch.dtype) -> Compilation:
        _, chosen, hidden, size = sizes
        outputs, k = (hidden, size) if down else (size, hidden)
        shape = (moe_vector.down_shape if down else moe_vector.gate_up_shape)(outputs, k)
        signature = dict.fromkeys(("x_ptr", "weight_ptr", "out_ptr"), pointer(dtype)) | {"ids_ptr": "*i64"}
        signature |= {"K": "i32", "stride_expert": "i32", "stride_w": "i32"}
        signature |= {"H": "i32", "weights_ptr": weights} if down else {"I": "i32", "stride_x": "i32"}
        fixed = {**moe_vector.constants(shape, k), "SLOTS": chosen, "PDL": True}
        fixed |= {"PREFETCH": k * dtype.itemsize} if down else {}
        function = moe_vector.down_kernel if down else moe_vector.gate_up_kernel
        return Compilation(function, signature, fixed, shape.num_warps)

    return compilation


def _tile_compilation(swiglu: bool) -> Callable[[Bank, str, torch.dtype], Compilation]:
    def compilation(sizes: Bank, _: str, dtype: torch.dtype) -> Compilation:
        _experts, chosen, hidden, size = sizes
        outputs, k = (size, hidden) if swiglu else (hidden, size)
        shape = moe_tiles.default_shape(outputs, k, dtype.itemsize)
        signature = dict.fromkeys(("x_ptr", "weight_ptr", "out_ptr"), pointer(dtype)) | {"ids_ptr": "*i64"}
        signature |= dict.fromkeys(("pairs", "N", "K", "stride_x", "stride_expert", "stride_w"), "i32")
        fixed: dict[str, Any] = {
            "SHARE": chosen if swiglu else 1,
            "SWIGLU": swiglu,
            "PDL": True,
            "WIDEN": False,
            "TREE": dtype == torch.float32,
        }
        fixed |= moe_tiles.constants(shape, k, 32 * chosen)
        return Compilation(moe_tiles.tiles_kernel, signature, fixed, shape.num_warps)

    return compilation


def _combine_compilation(sizes: Bank, weights: str, dtype: torch.dtype) -> Compilation:
    signature = dict.fromkeys(("x_ptr", "out_ptr"), pointer(dtype))
    signature |= {"weights_ptr": weights, "places_ptr": "*i64", "H": "i32"}
    fixed = {"SLOTS": sizes[1], "BLOCK": moe_combine.BLOCK, "PDL": True}
    return Compilation(moe_combine.combine_kernel, signature, fixed, moe_combine.WARPS)


def _neighbors(weight: str) -> Callable[[Inputs], Inputs]:
    return lambda i: {"ids": (i["ids"] + 1) % i[weight].shape[0]}


GATE_UP_FAULTS = (
    given("the neighbor of each expert", "expert", _neighbors("gate_up")),
    given("gate and up exchanged", "gate", lambda i: {"gate_up": torch.cat(i["gate_up"].chunk(2, 1)[::-1], 1)}),
)
DOWN_FAULTS = (given("the neighbor of each expert", "expert", _neighbors("down")),)
WEIGHT_FAULTS = (
    given("weights of another token", "expert", lambda i: {"weights": i["weights"].roll(1, 0)}),
    given("weights ignored", "expert", lambda i: {"weights": torch.ones_like(i["weights"])}),
)
MOE_GATE_UP = Kernel(
    name="moe_gate_up",
    launch=moe_vector.gate_up,
    eager=eager.experts_gate_up,
    cases=gate_up_cases(many=False),
    absolute=absolute,
    cost=gate_up_cost,
    compilations=_over_banks(_vector_compilation(down=False)),
    bench=_bench((1, 4), _real_gate_up),
    inapplicable=PLAIN_ROWS,
    int64_offset_cases=far_experts(few_gate_up, "gate_up"),
    mutants=GATE_UP_FAULTS,
)
MOE_DOWN = Kernel(
    name="moe_down",
    launch=moe_vector.down,
    eager=eager.experts_down,
    cases=down_cases(weighted=True),
    absolute=absolute,
    cost=down_cost,
    compilations=_over_banks(_vector_compilation(down=True)),
    bench=_bench((1, 4), _real_weighted),
    inapplicable={**PLAIN_ROWS, "expanded": "the launch refuses rows that are not contiguous"},
    int64_offset_cases=far_experts(lambda draw: few_down(draw, True), "down"),
    mutants=(*DOWN_FAULTS, *WEIGHT_FAULTS),
)
MOE_TILES_GATE_UP = Kernel(
    name="moe_tiles_gate_up",
    launch=moe_tiles.gate_up,
    eager=eager.experts_gate_up,
    cases=gate_up_cases(many=True),
    absolute=absolute,
    cost=gate_up_cost,
    compilations=_over_banks(_tile_compilation(swiglu=True)),
    bench=_bench((8, 32), _real_gate_up),
    inapplicable=PLAIN_ROWS,
    int64_offset_cases=far_experts(few_gate_up, "gate_up"),
    mutants=GATE_UP_FAULTS,
)
MOE_TILES_DOWN = Kernel(
    name="moe_tiles_down",
    launch=moe_tiles.project,
    eager=eager.experts_project,
    cases=down_cases(weighted=False),
    absolute=absolute,
    cost=down_cost,
    compilations=_over_banks(_tile_compilation(swiglu=False)),
    bench=_bench((8, 32), _real_down),
    inapplicable=PLAIN_ROWS,
    int64_offset_cases=far_experts(lambda draw: few_down(draw, False), "down"),
    mutants=DOWN_FAULTS,
)
MOE_COMBINE = Kernel(
    name="moe_combine",
    launch=moe_combine.combine,
    eager=eager.combine,
    cases=combine_cases,
    cost=combine_cost,
    compilations=_over_banks(_combine_compilation),
    bench=_bench((32, 4096), _real_combine),
    inapplicable={
        **NO_ATTENTION,
        **dict.fromkeys(("transposed", "sliced", "expanded"), "the launch refuses rows that are not contiguous"),
        "far": "rows are contiguous, and no batch has 2^31 elements of them",
        "canceling": "each part is rounded before it is added: where they cancel, that is what is left",
    },
    mutants=(
        *WEIGHT_FAULTS,
        given("places exchanged", "expert", lambda i: {"places": i["places"].roll(1)}),
        given("strides ignored", "stride", lambda i: {}, equivalent="all but contiguous inputs are refused"),
    ),
)
MOE = (MOE_GATE_UP, MOE_DOWN, MOE_TILES_GATE_UP, MOE_TILES_DOWN, MOE_COMBINE)
