"""The matrix-vector kernels as the harness knows them: input menus, costs, compilations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from harness.spec import Compilation, Cost, Kernel, OpCase
from models.common.faults import given, moved_epsilon, scaled
from models.common.kernels import values
from models.common.kernels.gemv import (
    GemvShape,
    block_rows,
    constants,
    default_shape,
    gemv,
    gemv_add,
    gemv_swiglu,
    norm_gemv,
    norm_gemv_swiglu,
    row_block,
)
from models.common.kernels.gemv_loops import matrix_kernel, vector_kernel
from models.common.kernels.menu_items import PLAIN_ROWS, SQUARED, items
from models.common.linear import norm_project, norm_project_swiglu, project, project_add, project_swiglu

SIZES = ((1, 320, 67), (1, 2560, 5), (2, 300, 16), (3, 320, 17), (16, 512, 31), (17, 640, 16), (64, 264, 33))
"""(M, K, N) of the menus: around the blocks, primes, lengths that are no power of two."""
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
HIDDEN, HEADS_WIDTH, QKV, INTERMEDIATE, VOCABULARY = 2560, 4096, 6144, 9728, 151936
"""Qwen3-4B: what a decode step multiplies by."""


def _weight(rows: int, k: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Tensor:
    return values.normal((rows, k), dtype, device, generator, scale=k**-0.5)


def _rows(k: int, m: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    """Activation rows of every kind, as cases of one input `x`."""
    draw = (dtype, device, generator)
    plain = values.normal((m, k), *draw)
    yield OpCase("normal", {"x": plain})
    if m == 1:
        yield OpCase("small", {"x": values.normal((m, k), *draw, scale=1e-3)})
        yield OpCase("offset", {"x": values.normal((m, k), *draw, offset=4.0)})
        yield OpCase("outliers", {"x": values.outliers((m, k), *draw)})
        yield OpCase("misaligned", {"x": values.misaligned(plain)})
    else:
        yield OpCase("nan row", {"x": values.with_nan_row(plain, m - 1)})
        yield OpCase("sliced", {"x": values.sliced(plain)})


def _menu(extra: str | None, pairs: int) -> Any:
    """Menu of a kernel taking x, a weight of `pairs` rows per output, and one more input named `extra`."""

    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for m, k, n in SIZES:
            weight = _weight(pairs * n, k, dtype, device, generator)
            for index, rows in enumerate(_rows(k, m, dtype, device, generator)):
                if index and (m, k) not in ((1, 320), (3, 320)):
                    continue
                inputs = {**rows.inputs, "weight": weight}
                if extra == "residual":
                    inputs["residual"] = values.normal((m, n), dtype, device, generator)
                if extra == "bias" and index % 2 == 0:
                    inputs["bias"] = values.normal((n,), dtype, device, generator)
                yield OpCase(f"{m}x{k}x{n} {rows.name}", inputs)
        m, k, n = (values.length(low, high, device, generator) for low, high in ((2, 20), (64, 600), (3, 50)))
        inputs = {"x": values.normal((m, k), dtype, device, generator)}
        inputs["weight"] = _weight(pairs * n, k, dtype, device, generator)
        if extra is not None:
            shape = (m, n) if extra == "residual" else (n,)
            inputs[extra] = values.normal(shape, dtype, device, generator)
        yield OpCase("drawn shape", inputs)
        yield from products(_pair(extra, pairs, dtype, device, generator), "weight", generator)

    return menu


def _pair(
    extra: str | None, pairs: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> dict[str, Tensor]:
    """Two rows, with nothing added to the product but a residual."""
    drawn = {"x": values.normal((2, 64), dtype, device, generator)}
    drawn["weight"] = _weight(pairs * 8, 64, dtype, device, generator)
    return drawn | ({"residual": values.normal((2, 8), dtype, device, generator)} if extra == "residual" else {})


def products(case: dict[str, Tensor], weight: str, generator: torch.Generator, most: float = 0.9) -> Iterator[OpCase]:
    """What else the rows `x` of a product can be. Weights are so small beside the largest values that no sum overflows,
    which it would do in another place in another order."""
    yield from items(case, ("x",), generator, "ties", "constant", "subnormal", "expanded")
    yield from items({**case, weight: case[weight] / 64}, ("x",), generator, "near-max", most=most)


def _norm_menu(pairs: int) -> Any:
    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        drawn = (values.length(64, 600, device, generator), values.length(3, 50, device, generator))
        for k, n in ((320, 9), (2560, 5), drawn):
            fixed = {
                "weight": _weight(pairs * n, k, dtype, device, generator),
                "norm_weight": values.normal((k,), dtype, device, generator, scale=0.1, offset=1.0),
                "eps": 1e-6,
            }
            for rows in islice(_rows(k, 1, dtype, device, generator), 5 if k == 320 else 1):
                scale = 1e-3 if rows.name == "small" else 1.0
                delta = values.normal((1, k), dtype, device, generator, scale=scale)
                yield OpCase(f"{k}x{n} {rows.name}", {"delta": delta, "residual": rows.inputs["x"], **fixed})
            if k == 320:
                case = {"delta": delta, "residual": rows.inputs["x"], **fixed}
                yield from items(case, ("residual",), generator, "ties", "constant", "sliced", "nan row")
                yield from items(case, ("delta", "residual"), generator, "subnormal")
                yield from items(case, ("residual",), generator, "near-max", most=SQUARED[dtype])

    return menu


def _bench(sizes: Sequence[tuple[int, int]], pairs: int, residual: bool) -> Any:
    def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for n, k in sizes:
            weight = _weight(pairs * n, k, dtype, device, generator)
            for m in (1, 32):
                inputs = {"x": values.normal((m, k), dtype, device, generator), "weight": weight}
                if residual:
                    inputs["residual"] = values.normal((m, n), dtype, device, generator)
                yield OpCase(f"M{m} N{pairs * n} K{k}", inputs)

    return bench


def _norm_bench(n: int, pairs: int) -> Any:
    def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        inputs = {
            "delta": values.normal((1, HIDDEN), dtype, device, generator),
            "residual": values.normal((1, HIDDEN), dtype, device, generator),
            "norm_weight": values.normal((HIDDEN,), dtype, device, generator, scale=0.1, offset=1.0),
            "eps": 1e-6,
            "weight": _weight(pairs * n, HIDDEN, dtype, device, generator),
        }
        yield OpCase(f"M1 N{pairs * n} K{HIDDEN}", inputs)

    return bench


def cost(x: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None) -> Cost:
    (m, k), rows = x.shape, weight.shape[0]
    extra = sum(t.numel() for t in (bias, residual) if t is not None)
    return Cost((m * k + rows * k + m * rows + extra) * x.element_size(), 2 * m * rows * k)


def swiglu_cost(x: Tensor, weight: Tensor) -> Cost:
    (m, k), rows = x.shape, weight.shape[0]
    return Cost((m * k + rows * k + m * rows // 2) * x.element_size(), 2 * m * rows * k)


def _norm_cost(outputs_per_row: float) -> Any:
    def norm_cost(delta: Tensor, residual: Tensor, norm_weight: Tensor, eps: float, weight: Tensor) -> Cost:
        rows, k = weight.shape
        size = residual.element_size()
        return Cost(int(rows * k + 4 * k + rows * outputs_per_row) * size, 2 * rows * k + 6 * k)

    return norm_cost


def vector_compilation(
    n: int,
    k: int,
    dtype: torch.dtype,
    epilogue: str,
    norm: bool,
    shape: GemvShape | None = None,
    codes: str | None = None,
) -> Compilation:
    """One activation row, by default with the launch shape of these sizes; `codes` is the type of a scaled weight."""
    size = 1 if codes else dtype.itemsize
    shape = shape or default_shape(1, n, k, size, epilogue == "swiglu")
    pointer = f"*{NAMES[dtype]}"
    used = ["x_ptr", "weight_ptr", "out_ptr"]
    used += ["delta_ptr", "gamma_ptr", "residual_ptr"] if norm else []
    used += ["extra_ptr"] if epilogue in ("bias", "add") else []
    signature = dict.fromkeys(used, pointer) | {"N": "i32", "K": "i32", "stride_w": "i32", "eps": "fp32"}
    scaled = _scaled(signature, codes)
    unused = {name: None for name in ("delta_ptr", "gamma_ptr", "residual_ptr", "extra_ptr") if name not in used}
    fixed = {"BLOCK_ROW": row_block(k) if norm else 1, "UNROLL": shape.unroll, "NORM": norm, "EPILOGUE": epilogue}
    return Compilation(
        vector_kernel, signature, {**unused, **fixed, **scaled, **constants(shape, k, size)}, shape.num_warps
    )


def matrix_compilation(
    m: int,
    n: int,
    k: int,
    dtype: torch.dtype,
    epilogue: str,
    shape: GemvShape | None = None,
    codes: str | None = None,
) -> Compilation:
    """As vector_compilation, for m rows."""
    size = 1 if codes else dtype.itemsize
    shape = shape or default_shape(m, n, k, size, epilogue == "swiglu")
    extra = epilogue in ("bias", "add")
    pointers = ["x_ptr", "weight_ptr", "out_ptr"] + (["extra_ptr"] if extra else [])
    signature = dict.fromkeys(pointers, f"*{NAMES[dtype]}") | {"partials_ptr": "*fp32", "tickets_ptr": "*i32"}
    signature |= dict.fromkeys(("M", "N", "K", "stride_x", "stride_w", "stride_extra"), "i32")
    fixed = {"BLOCK_M": block_rows(m), "SPLIT_K": shape.split_k, "EPILOGUE": epilogue, "WIDEN": False}
    fixed |= {} if extra else {"extra_ptr": None}
    fixed |= _scaled(signature, codes)
    return Compilation(matrix_kernel, signature, {**fixed, **constants(shape, k, size)}, shape.num_warps)


def _scaled(signature: dict[str, str], codes: str | None) -> dict[str, Any]:
    """Constants of a kernel whose weights are codes, and their types put into its signature."""
    if codes is None:
        return {"scale_ptr": None, "SCALED": False}
    signature |= {"weight_ptr": codes, "scale_ptr": "*fp32"}
    return {"SCALED": True}


def _compilations(sizes: Sequence[tuple[int, int]], epilogues: Sequence[str]) -> Any:
    def compilations(dtype: torch.dtype) -> list[Compilation]:
        made = [vector_compilation(n, k, dtype, epilogue, False) for n, k in sizes for epilogue in epilogues]
        return made + [matrix_compilation(m, n, k, dtype, e) for m in (2, 32, 64) for n, k in sizes for e in epilogues]

    return compilations


GATE_UP_EXCHANGED = given("gate and up exchanged", "gate", lambda i: {"weight": torch.cat(i["weight"].chunk(2)[::-1])})
INAPPLICABLE = {**PLAIN_ROWS, "far": "no matrix of a model has 2^31 elements, and rows of one block are 32 bits apart"}
ONE_ROW = {**INAPPLICABLE, "expanded": "there is one row"}
NORM_FAULTS = (
    scaled("eps", 0.0, "epsilon dropped", "epsilon"),
    moved_epsilon(lambda i: i["residual"] + i["delta"]),
    given("norm weight dropped", "weight", lambda i: {"norm_weight": torch.ones_like(i["norm_weight"])}),
    given("residual not added", "residual", lambda i: {"delta": torch.zeros_like(i["delta"])}),
)
GEMV = Kernel(
    name="gemv",
    launch=gemv,
    twin=project,
    menu=_menu("bias", 1),
    cost=cost,
    compilations=_compilations(((QKV, HIDDEN),), ("bias",)),
    bench=_bench(((QKV, HIDDEN), (HIDDEN, HEADS_WIDTH), (HIDDEN, INTERMEDIATE), (VOCABULARY, HIDDEN)), 1, False),
    inapplicable=INAPPLICABLE,
    mutants=(given("bias dropped", "bias", lambda i: {"bias": None}),),
)
GEMV_ADD = Kernel(
    name="gemv_add",
    launch=gemv_add,
    twin=project_add,
    menu=_menu("residual", 1),
    cost=cost,
    compilations=_compilations(((HIDDEN, INTERMEDIATE),), ("add",)),
    bench=_bench(((HIDDEN, HEADS_WIDTH), (HIDDEN, INTERMEDIATE)), 1, True),
    inapplicable=INAPPLICABLE,
    mutants=(given("residual dropped", "residual", lambda i: {"residual": torch.zeros_like(i["residual"])}),),
)
GEMV_SWIGLU = Kernel(
    name="gemv_swiglu",
    launch=gemv_swiglu,
    twin=project_swiglu,
    menu=_menu(None, 2),
    cost=swiglu_cost,
    compilations=_compilations(((INTERMEDIATE, HIDDEN),), ("swiglu",)),
    bench=_bench(((INTERMEDIATE, HIDDEN),), 2, False),
    inapplicable=INAPPLICABLE,
    mutants=(GATE_UP_EXCHANGED,),
)
NORM_GEMV = Kernel(
    name="norm_gemv",
    launch=norm_gemv,
    twin=norm_project,
    menu=_norm_menu(1),
    cost=_norm_cost(1),
    compilations=lambda dtype: [vector_compilation(QKV, HIDDEN, dtype, "none", True)],
    bench=_norm_bench(QKV, 1),
    inapplicable=ONE_ROW,
    mutants=NORM_FAULTS,
)
NORM_GEMV_SWIGLU = Kernel(
    name="norm_gemv_swiglu",
    launch=norm_gemv_swiglu,
    twin=norm_project_swiglu,
    menu=_norm_menu(2),
    cost=_norm_cost(0.5),
    compilations=lambda dtype: [vector_compilation(INTERMEDIATE, HIDDEN, dtype, "swiglu", True)],
    bench=_norm_bench(INTERMEDIATE, 2),
    inapplicable=ONE_ROW,
    mutants=(*NORM_FAULTS, GATE_UP_EXCHANGED),
)
