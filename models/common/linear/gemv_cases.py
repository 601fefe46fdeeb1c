"""The matrix-vector kernels as the harness knows them: input menus, costs, compilations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.kernels import values
from models.common.kernels.menu_items import PLAIN_ROWS, items
from models.common.kernels.mutation import Inputs, given, truncated
from models.common.kernels.workspace import shared
from models.common.linear.eager import project, project_swiglu
from models.common.linear.gemv import GemvShape, block_rows, constants, default_shape, gemv, gemv_swiglu
from models.common.linear.gemv_loops import matrix_kernel, vector_kernel

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


def _cases(biased: bool, pairs: int) -> Any:
    """Menu of a kernel taking x, a weight of `pairs` rows per output, and perhaps a bias."""

    def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for m, k, n in SIZES:
            weight = _weight(pairs * n, k, dtype, device, generator)
            for index, rows in enumerate(_rows(k, m, dtype, device, generator)):
                if index and (m, k) not in ((1, 320), (3, 320)):
                    continue
                inputs = {**rows.inputs, "weight": weight}
                if biased and index % 2 == 0:
                    inputs["bias"] = values.normal((n,), dtype, device, generator)
                yield OpCase(f"{m}x{k}x{n} {rows.name}", inputs)
        m, k, n = (values.length(low, high, device, generator) for low, high in ((2, 20), (64, 600), (3, 50)))
        inputs = {"x": values.normal((m, k), dtype, device, generator)}
        inputs["weight"] = _weight(pairs * n, k, dtype, device, generator)
        if biased:
            yield OpCase("not rounded", {**inputs, "rounded": False})
            yield OpCase("one row, not rounded", {**inputs, "x": inputs["x"][:1], "rounded": False})
            inputs["bias"] = values.normal((n,), dtype, device, generator)
        yield OpCase("drawn shape", inputs)
        two = {"x": values.normal((2, 64), dtype, device, generator)}
        two["weight"] = _weight(pairs * 8, 64, dtype, device, generator)
        yield from products(two, "weight", generator)
        for m in (1, 5):
            yield OpCase(f"canceling, {m} rows", canceling_product(m, 512, 24, dtype, device, generator, pairs == 2))

    return cases


def canceling_product(
    m: int,
    k: int,
    n: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    gated: bool = False,
) -> dict[str, Tensor]:
    """Rows whose products with a weight [n, k] of numbers near 1 cancel. Where they are `gated`, n more rows come first
    that give gates near 2, of one product each."""
    x = values.canceling((m, k), dtype, device, generator)
    weight = values.normal((n, k), dtype, device, generator, scale=0.1, offset=1.0)
    gate = torch.zeros_like(weight)
    gate[:, 0] = 2.0
    return {"x": x, "weight": torch.cat((gate, weight)) if gated else weight}


def absolute(inputs: Inputs) -> dict[str, Tensor]:
    """Weights of a canceling product are positive."""
    return {"x": inputs["x"].abs()}


def products(case: dict[str, Tensor], weight: str, generator: torch.Generator, most: float = 0.9) -> Iterator[OpCase]:
    """What else the rows `x` of a product can be. Weights are so small beside the largest values that no sum overflows,
    which it would do in another place in another order."""
    yield from items(case, ("x",), generator, "ties", "constant", "subnormal", "expanded")
    yield from items({**case, weight: case[weight] / 64}, ("x",), generator, "near-max", most=most)


def _bench(sizes: Sequence[tuple[int, int]], pairs: int) -> Any:
    def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for n, k in sizes:
            weight = _weight(pairs * n, k, dtype, device, generator)
            for m in (1, 32):
                inputs = {"x": values.normal((m, k), dtype, device, generator), "weight": weight}
                yield OpCase(f"M{m} N{pairs * n} K{k}", inputs)

    return bench


def cost(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Cost:
    (m, k), rows = x.shape, weight.shape[0]
    added = 0 if bias is None else bias.numel()
    return Cost((m * k + rows * k + m * rows + added) * x.element_size(), 2 * m * rows * k)


def swiglu_cost(x: Tensor, weight: Tensor) -> Cost:
    (m, k), rows = x.shape, weight.shape[0]
    return Cost((m * k + rows * k + m * rows // 2) * x.element_size(), 2 * m * rows * k)


def vector_compilation(
    n: int,
    k: int,
    dtype: torch.dtype,
    epilogue: str,
    shape: GemvShape | None = None,
    codes: str | None = None,
) -> Compilation:
    """One activation row, by default with the launch shape of these sizes; `codes` is the type of a scaled weight."""
    size = 1 if codes else dtype.itemsize
    shape = shape or default_shape(1, n, k, size, epilogue == "swiglu")
    signature = _pointers(dtype, epilogue) | dict.fromkeys(("N", "K", "stride_w"), "i32")
    fixed = {"UNROLL": shape.unroll, "EPILOGUE": epilogue} | _unbiased(epilogue) | _scaled(signature, codes)
    return Compilation(vector_kernel, signature, {**fixed, **constants(shape, k, size)}, shape.num_warps)


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
    signature = _pointers(dtype, epilogue) | {"partials_ptr": "*fp32", "tickets_ptr": "*i32"}
    signature |= dict.fromkeys(("M", "N", "K", "stride_x", "stride_w"), "i32")
    fixed = {"BLOCK_M": block_rows(m), "SPLIT_K": shape.split_k, "EPILOGUE": epilogue, "WIDEN": False}
    fixed |= _unbiased(epilogue) | _scaled(signature, codes)
    return Compilation(matrix_kernel, signature, {**fixed, **constants(shape, k, size)}, shape.num_warps)


def _pointers(dtype: torch.dtype, epilogue: str) -> dict[str, str]:
    used = ("x_ptr", "weight_ptr", "out_ptr") + (("bias_ptr",) if epilogue == "bias" else ())
    return dict.fromkeys(used, f"*{NAMES[dtype]}")


def _unbiased(epilogue: str) -> dict[str, None]:
    return {} if epilogue == "bias" else {"bias_ptr": None}


def _scaled(signature: dict[str, str], codes: str | None) -> dict[str, Any]:
    """Constants of a kernel whose weights are codes, and their types put into its signature."""
    if codes is None:
        return {"scale_ptr": None, "SCALED": False}
    signature |= {"weight_ptr": codes, "scale_ptr": "*fp32"}
    return {"SCALED": True}


def _compilations(sizes: Sequence[tuple[int, int]], epilogues: Sequence[str]) -> Any:
    def compilations(dtype: torch.dtype) -> list[Compilation]:
        made = [vector_compilation(n, k, dtype, epilogue) for n, k in sizes for epilogue in epilogues]
        return made + [matrix_compilation(m, n, k, dtype, e) for m in (2, 32, 64) for n, k in sizes for e in epilogues]

    return compilations


GATE_UP_EXCHANGED = given("gate and up exchanged", "gate", lambda i: {"weight": torch.cat(i["weight"].chunk(2)[::-1])})
INAPPLICABLE = {**PLAIN_ROWS, "far": "no matrix of a model has 2^31 elements, and rows of one block are 32 bits apart"}
GEMV = Kernel(
    name="gemv",
    launch=gemv,
    shared_workspace=shared,
    eager=project,
    cases=_cases(True, 1),
    cost=cost,
    compilations=_compilations(((QKV, HIDDEN),), ("bias",)),
    bench=_bench(((QKV, HIDDEN), (HIDDEN, HEADS_WIDTH), (HIDDEN, INTERMEDIATE), (VOCABULARY, HIDDEN)), 1),
    inapplicable=INAPPLICABLE,
    absolute=absolute,
    mutants=(given("bias dropped", "bias", lambda i: {"bias": None}), truncated("out", project)),
)
GEMV_SWIGLU = Kernel(
    name="gemv_swiglu",
    launch=gemv_swiglu,
    shared_workspace=shared,
    eager=project_swiglu,
    cases=_cases(False, 2),
    cost=swiglu_cost,
    compilations=_compilations(((INTERMEDIATE, HIDDEN),), ("swiglu",)),
    bench=_bench(((INTERMEDIATE, HIDDEN),), 2),
    inapplicable=INAPPLICABLE,
    absolute=absolute,
    mutants=(GATE_UP_EXCHANGED,),
)
