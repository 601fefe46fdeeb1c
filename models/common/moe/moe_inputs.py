"""Inputs of the mixture-of-experts kernels: routings, shapes and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import OpCase
from models.common.kernels import values
from models.common.kernels.menu_items import items
from models.common.linear.gemv_cases import canceling_product

Draw = tuple[torch.dtype, torch.device, torch.Generator]
Choose = Callable[[int, int, int, torch.device, torch.Generator], Tensor]


def spread(tokens: int, chosen: int, bank: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Distinct experts for each token, uniformly: ids [tokens, chosen]."""
    scores = torch.rand(tokens, bank, device=device, generator=generator)
    return scores.topk(chosen, dim=-1).indices


def crowded(tokens: int, chosen: int, bank: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Every token visits the same experts, the last ones; all others stay empty."""
    ids = torch.arange(bank - chosen, bank, device=device)
    return ids.flip(0).expand(tokens, -1).contiguous()


def indivisible(tokens: int, chosen: int, bank: int, device: torch.device, generator: torch.Generator) -> Tensor:
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
    ("16 to one", indivisible, (17, 2, 4, 72, 24)),
    ("17 to one", indivisible, (18, 1, 3, 64, 16)),
    ("one, and 19 behind it", behind, (20, 1, 4, 64, 16)),
)
"""Name, routing, (tokens, chosen, experts, hidden, intermediate)."""
CROWD = ("64 to the same", crowded, (64, 1, 2, 64, 16))
"""Of a kernel that serves many tokens: several blocks of one expert."""


def _shapes(
    many: bool, device: torch.device, generator: torch.Generator
) -> Iterator[tuple[str, Choose, tuple[int, int, int, int, int]]]:
    yield from (*SHAPES, CROWD) if many else SHAPES
    bounds = ((2, 12), (1, 4), (4, 9), (5, 25), (2, 8))
    tokens, chosen, bank, hidden, size = (values.length(*ends, device, generator) for ends in bounds)
    # torch's grouped product takes rows of 16 bytes.
    yield "drawn shape", spread, (tokens, chosen, bank, 8 * hidden, 8 * size)


def bank_of(rows: int, k: int, bank: int, draw: Draw) -> Tensor:
    """Weights of a bank of experts [bank, rows, k], of rows whose products are near 1."""
    return values.normal((bank, rows, k), *draw, scale=k**-0.5)


def shares(tokens: int, chosen: int, draw: Draw) -> Tensor:
    """What each chosen expert counts [tokens, chosen]: a token's add up to 1."""
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


def gate_up_cases(many: bool) -> Any:
    """Of a kernel that serves `many` tokens, or a few."""

    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        draw = (dtype, device, generator)
        for name, choose, (tokens, chosen, bank, hidden, size) in _shapes(many, device, generator):
            ids = choose(tokens, chosen, bank, device, generator)
            weight = bank_of(2 * size, hidden, bank, draw)
            for kind, x in _activations((tokens, hidden), draw):
                yield OpCase(f"{name}{kind}", {"x": x, "ids": ids, "gate_up": weight})
            if name == "three tokens":
                yield OpCase("sliced", {"x": values.sliced(x), "ids": ids, "gate_up": values.sliced(weight)})
        yield from _items(few_gate_up(draw), "gate_up", draw, "expanded")
        product = canceling_product(5, 256, 16, *draw, gated=True)
        ids = spread(5, 1, 3, device, generator)
        yield OpCase("canceling", {"x": product["x"], "ids": ids, "gate_up": _for_all(product["weight"])})

    return menu


def down_cases(weighted: bool) -> Any:
    """Of a kernel that weights and adds a few tokens' experts, or of one that leaves those of many as they are."""

    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        draw = (dtype, device, generator)
        for name, choose, (tokens, chosen, bank, hidden, size) in _shapes(not weighted, device, generator):
            ids = choose(tokens, chosen, bank, device, generator)
            inputs = {"ids": ids, "down": bank_of(hidden, size, bank, draw)}
            if weighted:
                inputs["weights"] = shares(tokens, chosen, draw)
            for kind, x in _activations((tokens * chosen, size), draw):
                yield OpCase(f"{name}{kind}", {"x": x, **inputs})
            if name == "three tokens":
                strided = x if weighted else values.sliced(x)
                yield OpCase("sliced", {"x": strided, **inputs, "down": values.sliced(inputs["down"])})
            if weighted and name == "three tokens":
                yield OpCase("float32 weights", {"x": x, **inputs, "weights": inputs["weights"].float()})
        more = ("small", "outliers", "nan row", *(() if weighted else ("expanded",)))
        yield from _items(few_down(draw, weighted), "down", draw, *more)
        product = canceling_product(5, 256, 16, *draw)
        case = {"x": product["x"], "ids": spread(5, 1, 3, device, generator), "down": _for_all(product["weight"])}
        yield OpCase("canceling", case | ({"weights": shares(5, 1, draw)} if weighted else {}))

    return menu


def _for_all(weight: Tensor) -> Tensor:
    """A bank of three experts with the same rows, halved from one to the next."""
    return torch.stack([weight / 2**expert for expert in range(3)])


def few_gate_up(draw: Draw) -> dict[str, Tensor]:
    """Two tokens, one expert of three each."""
    ids = spread(2, 1, 3, *draw[1:])
    return {"x": values.normal((2, 64), *draw), "ids": ids, "gate_up": bank_of(32, 64, 3, draw)}


def few_down(draw: Draw, weighted: bool) -> dict[str, Tensor]:
    """Two pairs of a token and one expert of three."""
    ids = spread(2, 1, 3, *draw[1:])
    case = {"x": values.normal((2, 64), *draw), "ids": ids, "down": bank_of(16, 64, 3, draw)}
    return case | ({"weights": shares(2, 1, draw)} if weighted else {})


def _items(case: dict[str, Tensor], weight: str, draw: Draw, *more: str) -> Iterator[OpCase]:
    """As `gemv_cases.products`."""
    yield from items(case, ("x",), draw[2], "offset", "ties", "constant", "subnormal", "misaligned", *more)
    yield from items({**case, weight: case[weight] / 64}, ("x",), draw[2], "near-max")


def far_experts(few: Callable[[Draw], dict[str, Tensor]], weight: str) -> Any:
    """The inputs `few` with the last expert, which the first token visits, 2^31 elements behind the first."""

    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        case = few((dtype, device, generator))
        ids = case["ids"].clone()
        ids[0] = len(case[weight]) - 1
        yield OpCase("far experts", {**case, "ids": ids, weight: values.past_int32(case[weight])})

    return menu


def combine_cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    drawn = tuple(values.length(*ends, device, generator) for ends in ((2, 12), (1, 4), (40, 200)))
    for tokens, chosen, hidden in ((1, 8, 256), (5, 2, 97), (3, 1, 64), drawn):
        places = torch.randperm(tokens * chosen, device=device, generator=generator)
        x = values.normal((tokens * chosen, hidden), *draw)
        inputs = {"places": places, "weights": shares(tokens, chosen, draw)}
        yield OpCase(f"{tokens}x{chosen}x{hidden}", {"projected": x, **inputs})
        if hidden == 97:
            yield OpCase("nan row", {"projected": values.with_nan_row(x, 3), **inputs})
            upcast = {**inputs, "weights": inputs["weights"].float()}
            yield OpCase("float32 weights", {"projected": x, **upcast})
            drawn_like = ("small", "offset", "outliers", "subnormal", "ties", "constant", "misaligned")
            yield from items({"projected": x, **inputs}, ("projected",), generator, *drawn_like)
            yield from items({"projected": x, **inputs}, ("projected",), generator, "near-max", most=0.5)
