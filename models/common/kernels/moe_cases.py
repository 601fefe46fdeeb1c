"""The mixture-of-experts kernels as the harness knows them: input menus, costs, compilations, real shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common import experts
from models.common.faults import Inputs, given
from models.common.kernels import moe_combine, moe_tiles, moe_vector, values
from models.common.kernels.menu_items import NO_ATTENTION, PLAIN_ROWS, items
from models.common.kernels.types import pointer

Draw = tuple[torch.dtype, torch.device, torch.Generator]
Choose = Callable[[int, int, int, torch.device, torch.Generator], Tensor]
Bank = tuple[int, int, int, int]
"""(experts, chosen, hidden, intermediate)."""
SMALL, LARGE = (128, 8, 2048, 768), (160, 8, 5120, 1536)
"""Qwen3-Coder-30B, whose weights have the model's type; GLM-4.7, whose weights are float32."""


def spread(tokens: int, chosen: int, bank: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Distinct experts for each token, uniformly: ids [tokens, chosen]."""
    scores = torch.rand(tokens, bank, device=device, generator=generator)
    return scores.topk(chosen, dim=-1).indices


def crowded(tokens: int, chosen: int, bank: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Every token visits the same experts, the last ones; all others stay empty."""
    ids = torch.arange(bank - chosen, bank, device=device)
    return ids.flip(0).expand(tokens, -1).contiguous()


def uneven(tokens: int, chosen: int, bank: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """The first expert gets every token but the last: one less than the tokens, around the block of 16."""
    ids = spread(tokens, chosen, bank - 1, device, generator) + 1
    ids[:-1, 0] = 0
    return ids


def behind(tokens: int, chosen: int, bank: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """The first token goes to the first expert, all others crowd into the last."""
    ids = torch.full((tokens, chosen), bank - 1, device=device)
    ids[0] = 0
    return ids


SHAPES: tuple[tuple[str, Choose, tuple[int, int, int, int, int]], ...] = (
    ("one token", spread, (1, 8, 32, 256, 96)),
    ("three tokens", spread, (3, 2, 5, 64, 40)),
    ("all to the same", crowded, (17, 2, 6, 64, 48)),
    ("16 to one", uneven, (17, 2, 4, 72, 24)),
    ("17 to one", uneven, (18, 1, 3, 64, 16)),
    ("one, and 19 behind it", behind, (20, 1, 4, 64, 16)),
)
"""Name, routing, (tokens, chosen, experts, hidden, intermediate)."""


def _shapes(
    device: torch.device, generator: torch.Generator
) -> Iterator[tuple[str, Choose, tuple[int, int, int, int, int]]]:
    yield from SHAPES
    bounds = ((2, 12), (1, 4), (4, 9), (5, 25), (2, 8))
    tokens, chosen, bank, hidden, size = (values.length(*ends, device, generator) for ends in bounds)
    # torch's grouped product takes rows of 16 bytes.
    yield "drawn shape", spread, (tokens, chosen, bank, 8 * hidden, 8 * size)


def _bank(rows: int, k: int, bank: int, draw: Draw) -> Tensor:
    return values.normal((bank, rows, k), *draw, scale=k**-0.5)


def _weights(tokens: int, chosen: int, draw: Draw) -> Tensor:
    dtype, device, generator = draw
    share = torch.rand(tokens, chosen, device=device, generator=generator) + 0.1
    return (share / share.sum(-1, keepdim=True)).to(dtype)


def _activations(shape: tuple[int, int], draw: Draw) -> Iterator[tuple[str, Tensor]]:
    plain = values.normal(shape, *draw)
    yield "", plain
    if shape[0] == 3:
        yield " small", values.normal(shape, *draw, scale=1e-3)
        yield " outliers", values.outliers(shape, *draw)
        yield " nan row", values.with_nan_row(plain, 1)


def gate_up_menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    for name, choose, (tokens, chosen, bank, hidden, size) in _shapes(device, generator):
        ids = choose(tokens, chosen, bank, device, generator)
        weight = _bank(2 * size, hidden, bank, draw)
        for kind, x in _activations((tokens, hidden), draw):
            yield OpCase(f"{name}{kind}", {"x": x, "ids": ids, "gate_up": weight})
        if name == "three tokens":
            yield OpCase("sliced", {"x": values.sliced(x), "ids": ids, "gate_up": values.sliced(weight)})
    yield from _items(_few_gate_up(draw), "gate_up", draw, "expanded")


def _down_menu(weighted: bool) -> Any:
    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        draw = (dtype, device, generator)
        for name, choose, (tokens, chosen, bank, hidden, size) in _shapes(device, generator):
            ids = choose(tokens, chosen, bank, device, generator)
            inputs = {"ids": ids, "down": _bank(hidden, size, bank, draw)}
            if weighted:
                inputs["weights"] = _weights(tokens, chosen, draw)
            for kind, x in _activations((tokens * chosen, size), draw):
                yield OpCase(f"{name}{kind}", {"x": x, **inputs})
            if name == "three tokens":
                strided = x if weighted else values.sliced(x)
                yield OpCase("sliced", {"x": strided, **inputs, "down": values.sliced(inputs["down"])})
            if weighted and name == "three tokens":
                yield OpCase("float32 weights", {"x": x, **inputs, "weights": inputs["weights"].float()})
        more = ("small", "outliers", "nan row", *(() if weighted else ("expanded",)))
        yield from _items(_few_down(draw, weighted), "down", draw, *more)

    return menu


def _few_gate_up(draw: Draw) -> dict[str, Tensor]:
    ids = spread(2, 1, 3, *draw[1:])
    return {"x": values.normal((2, 64), *draw), "ids": ids, "gate_up": _bank(32, 64, 3, draw)}


def _few_down(draw: Draw, weighted: bool) -> dict[str, Tensor]:
    ids = spread(2, 1, 3, *draw[1:])
    case = {"x": values.normal((2, 64), *draw), "ids": ids, "down": _bank(16, 64, 3, draw)}
    return case | ({"weights": _weights(2, 1, draw)} if weighted else {})


def _items(case: dict[str, Tensor], weight: str, draw: Draw, *more: str) -> Iterator[OpCase]:
    """As `gemv_cases.products`."""
    yield from items(case, ("x",), draw[2], "offset", "ties", "constant", "subnormal", "misaligned", *more)
    yield from items({**case, weight: case[weight] / 64}, ("x",), draw[2], "near-max")


def _far_bank(few: Callable[[Draw], dict[str, Tensor]], weight: str) -> Any:
    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        case = few((dtype, device, generator))
        yield OpCase("far experts", {**case, weight: values.far(case[weight])})

    return menu


def combine_menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    drawn = tuple(values.length(*ends, device, generator) for ends in ((2, 12), (1, 4), (40, 200)))
    for tokens, chosen, hidden in ((1, 8, 256), (5, 2, 97), (3, 1, 64), drawn):
        places = torch.randperm(tokens * chosen, device=device, generator=generator)
        x = values.normal((tokens * chosen, hidden), *draw)
        inputs = {"places": places, "weights": _weights(tokens, chosen, draw)}
        yield OpCase(f"{tokens}x{chosen}x{hidden}", {"projected": x, **inputs})
        if hidden == 97:
            yield OpCase("nan row", {"projected": values.with_nan_row(x, 3), **inputs})
            wide = {**inputs, "weights": inputs["weights"].float()}
            yield OpCase("float32 weights", {"projected": x, **wide})
            chosen = ("small", "offset", "outliers", "subnormal", "ties", "constant", "misaligned")
            yield from items({"projected": x, **inputs}, ("projected",), generator, *chosen)
            yield from items({"projected": x, **inputs}, ("projected",), generator, "near-max", most=0.5)


def _bench(rows: Sequence[int], build: Callable[[Bank, int, Draw], dict[str, Tensor]]) -> Any:
    def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for bank, tokens in product((SMALL, LARGE), rows):
            yield OpCase(f"B{tokens}, {bank[1]} of {bank[0]}", build(bank, tokens, (dtype, device, generator)))

    return bench


def _real_gate_up(sizes: Bank, tokens: int, draw: Draw) -> dict[str, Tensor]:
    bank, chosen, hidden, size = sizes
    ids = spread(tokens, chosen, bank, *draw[1:])
    return {"x": values.normal((tokens, hidden), *draw), "ids": ids, "gate_up": _bank(2 * size, hidden, bank, draw)}


def _real_down(sizes: Bank, tokens: int, draw: Draw) -> dict[str, Tensor]:
    bank, chosen, hidden, size = sizes
    ids = spread(tokens, chosen, bank, *draw[1:])
    return {"x": values.normal((tokens * chosen, size), *draw), "ids": ids, "down": _bank(hidden, size, bank, draw)}


def _real_weights(sizes: Bank, tokens: int, draw: Draw) -> Tensor:
    dtype, device, generator = draw
    return _weights(tokens, sizes[1], (torch.float32 if sizes is LARGE else dtype, device, generator))


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
        fixed |= {"AHEAD": k * dtype.itemsize} if down else {}
        function = moe_vector.down_kernel if down else moe_vector.gate_up_kernel
        return Compilation(function, signature, fixed, shape.num_warps)

    return compilation


def _tile_compilation(swiglu: bool) -> Callable[[Bank, str, torch.dtype], Compilation]:
    def compilation(sizes: Bank, _: str, dtype: torch.dtype) -> Compilation:
        _, chosen, hidden, size = sizes
        outputs, k = (size, hidden) if swiglu else (hidden, size)
        shape = moe_tiles.default_shape(outputs, k, dtype.itemsize)
        signature = dict.fromkeys(("x_ptr", "weight_ptr", "out_ptr"), pointer(dtype)) | {"ids_ptr": "*i64"}
        signature |= dict.fromkeys(("pairs", "N", "K", "stride_x", "stride_expert", "stride_w"), "i32")
        fixed = {
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
    twin=experts.experts_gate_up,
    menu=gate_up_menu,
    cost=gate_up_cost,
    compilations=_over_banks(_vector_compilation(down=False)),
    bench=_bench((1, 4), _real_gate_up),
    inapplicable=PLAIN_ROWS,
    far=_far_bank(_few_gate_up, "gate_up"),
    mutants=GATE_UP_FAULTS,
)
MOE_DOWN = Kernel(
    name="moe_down",
    launch=moe_vector.down,
    twin=experts.experts_down,
    menu=_down_menu(weighted=True),
    cost=down_cost,
    compilations=_over_banks(_vector_compilation(down=True)),
    bench=_bench((1, 4), _real_weighted),
    inapplicable={**PLAIN_ROWS, "expanded": "the launch refuses rows that are not contiguous"},
    far=_far_bank(lambda draw: _few_down(draw, True), "down"),
    mutants=(*DOWN_FAULTS, *WEIGHT_FAULTS),
)
MOE_TILES_GATE_UP = Kernel(
    name="moe_tiles_gate_up",
    launch=moe_tiles.gate_up,
    twin=experts.experts_gate_up,
    menu=gate_up_menu,
    cost=gate_up_cost,
    compilations=_over_banks(_tile_compilation(swiglu=True)),
    bench=_bench((8, 32), _real_gate_up),
    inapplicable=PLAIN_ROWS,
    far=_far_bank(_few_gate_up, "gate_up"),
    mutants=GATE_UP_FAULTS,
)
MOE_TILES_DOWN = Kernel(
    name="moe_tiles_down",
    launch=moe_tiles.project,
    twin=experts.experts_project,
    menu=_down_menu(weighted=False),
    cost=down_cost,
    compilations=_over_banks(_tile_compilation(swiglu=False)),
    bench=_bench((8, 32), _real_down),
    inapplicable=PLAIN_ROWS,
    far=_far_bank(lambda draw: _few_down(draw, False), "down"),
    mutants=DOWN_FAULTS,
)
MOE_COMBINE = Kernel(
    name="moe_combine",
    launch=moe_combine.combine,
    twin=experts.combine,
    menu=combine_menu,
    cost=combine_cost,
    compilations=_over_banks(_combine_compilation),
    bench=_bench((32, 4096), _real_combine),
    inapplicable={
        **NO_ATTENTION,
        **dict.fromkeys(("transposed", "sliced", "expanded"), "the launch refuses rows that are not contiguous"),
        "far": "rows are contiguous, and no batch has 2^31 elements of them",
    },
    mutants=(
        *WEIGHT_FAULTS,
        given("places exchanged", "expert", lambda i: {"places": i["places"].roll(1)}),
        given("strides ignored", "stride", lambda i: {}, equivalent="all but contiguous inputs are refused"),
    ),
)
MOE = (MOE_GATE_UP, MOE_DOWN, MOE_TILES_GATE_UP, MOE_TILES_DOWN, MOE_COMBINE)
