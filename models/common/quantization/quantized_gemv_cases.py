"""The products with quantized weights as the harness knows them: input menus, costs, compilations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase, OpCases
from models.common.kernels import values
from models.common.kernels.menu_items import PLAIN_ROWS, items
from models.common.kernels.mutation import given
from models.common.kernels.types import pointer
from models.common.kernels.workspace import shared
from models.common.linear.gemv import gemv_scaled
from models.common.linear.gemv_cases import (
    HEADS_WIDTH,
    HIDDEN,
    INTERMEDIATE,
    QKV,
    VOCABULARY,
    absolute,
    canceling_product,
    matrix_compilation,
    products,
    vector_compilation,
)
from models.common.quantization.int4_loops import int4_matrix_kernel, int4_vector_kernel
from models.common.quantization.quantized_gemv import constants, default_shape, gemv_int4
from models.common.quantization.schemes import FP8, INT4, INT8, Scheme, project_scaled, project_unpacked

SIZES = ((1, 320, 67), (1, 2560, 5), (2, 300, 16), (3, 128, 33), (16, 608, 31), (17, 127, 16))
"""(M, K, N): around a group of 128 channels and the blocks of outputs, primes, lengths that are no power of two."""
ROOM = {torch.float16: 0.9, torch.bfloat16: 1e-5, torch.float32: 1e-5}
"""The share of the largest value that 128 codes, which are scaled after they are summed, leave room for in float32."""
LAYERS = (
    (QKV, HIDDEN),
    (HIDDEN, HEADS_WIDTH),
    (2 * INTERMEDIATE, HIDDEN),
    (HIDDEN, INTERMEDIATE),
    (VOCABULARY, HIDDEN),
)
"""(outputs, sum length) of Qwen3-4B's decode step."""


def codes_of(scheme: Scheme, weight: Tensor) -> dict[str, Tensor]:
    """A matrix as keyword arguments of its kernel."""
    held = scheme.quantize(weight)
    return {"codes": held.codes, "scales": held.scales} | ({} if held.zeros is None else {"zeros": held.zeros})


def _weights(
    n: int, k: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """Matrices [n, k] whose scales differ from row to row and from group to group."""
    spread = torch.logspace(-1, 1, n, device=device)[:, None] * torch.linspace(1, 3, k, device=device)
    drawn = values.normal((n, k), torch.float32, device, generator, scale=k**-0.5)
    yield "normal", (drawn * spread).to(dtype)
    yield "one-sided", (drawn.abs() * spread).to(dtype)
    empty = (drawn * spread).to(dtype)
    empty[0] = 0
    yield "empty row", empty


def _cases(scheme: Scheme) -> OpCases:
    def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        draw = (dtype, device, generator)
        for m, k, n in SIZES:
            rows = values.normal((m, k), *draw)
            for index, (name, weight) in enumerate(_weights(n, k, *draw)):
                inputs = {"x": rows, **codes_of(scheme, weight)}
                if index == 1:
                    inputs["bias"] = values.normal((n,), *draw)
                yield OpCase(f"{m}x{k}x{n} {name}", inputs)
                if m not in (1, 3) or k == HIDDEN:
                    break
            if m == 3:
                yield OpCase("nan row", {**inputs, "x": values.with_nan_row(rows, 1)})
                yield OpCase("sliced", {**inputs, "x": values.sliced(rows)})
            if m == 1 and k != HIDDEN:
                yield OpCase("outliers", {**inputs, "x": values.outliers((m, k), *draw)})
                yield OpCase("misaligned", {**inputs, "x": values.misaligned(rows)})
        m, k, n = (values.length(low, high, device, generator) for low, high in ((2, 20), (64, 600), (3, 50)))
        weight = values.normal((n, k), *draw, scale=k**-0.5)
        drawn = {"x": values.normal((m, k), *draw), **codes_of(scheme, weight)}
        yield OpCase("drawn shape", drawn)
        yield OpCase("not rounded", {**drawn, "rounded": False})
        yield OpCase("one row, not rounded", {**drawn, "x": drawn["x"][:1], "rounded": False})
        weight = values.normal((8, 128), *draw, scale=128**-0.5)
        case = {"x": values.normal((2, 128), *draw), **codes_of(scheme, weight)}
        yield from items(case, ("x",), generator, "small", "offset")
        yield from products(case, "scales", generator, ROOM[dtype])
        for m in (1, 5):
            product = canceling_product(m, 512, 24, *draw)
            yield OpCase(f"canceling, {m} rows", {"x": product["x"], **codes_of(scheme, product["weight"])})

    return cases


def _bench(scheme: Scheme) -> Callable[[torch.dtype, torch.device, torch.Generator], Iterator[OpCase]]:
    def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for n, k in LAYERS:
            held = codes_of(scheme, values.normal((n, k), dtype, device, generator, scale=k**-0.5))
            for m in (1, 8):
                yield OpCase(f"M{m} N{n} K{k}", {"x": values.normal((m, k), dtype, device, generator), **held})

    return bench


def cost(x: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None) -> Cost:
    (m, k), n = x.shape, codes.shape[0]
    held = [t for t in (x, codes, scales, zeros, bias) if t is not None]
    moved = sum(t.numel() * t.element_size() for t in held) + m * n * x.element_size()
    return Cost(moved, 2 * m * n * k)


def _scaled_compilations(codes: str) -> Callable[[torch.dtype], Sequence[Compilation]]:
    def compilations(dtype: torch.dtype) -> list[Compilation]:
        made = [vector_compilation(n, k, dtype, "none", codes=codes) for n, k in LAYERS]
        return made + [matrix_compilation(m, n, k, dtype, "none", codes=codes) for m in (2, 64) for n, k in LAYERS[2:4]]

    return compilations


def _int4_compilations(dtype: torch.dtype) -> list[Compilation]:
    types = {"x_ptr": pointer(dtype), "codes_ptr": "*u8", "scales_ptr": "*fp32", "zeros_ptr": "*u8"}
    types |= {"out_ptr": pointer(dtype), "N": "i32", "K": "i32", "GROUPS_K": "i32"}
    fixed = {"bias_ptr": None, "PDL": True}
    made = []
    for n, _ in LAYERS[2:4]:
        one = default_shape(1, n)
        made.append(Compilation(int4_vector_kernel, types, constants(1, one, False) | fixed, one.num_warps))
        for m in (2, 64):
            few = default_shape(m, n)
            several = types | {"M": "i32", "stride_x": "i32"}
            chosen = constants(m, few, False) | fixed | {"WIDEN": False}
            made.append(Compilation(int4_matrix_kernel, several, chosen, few.num_warps))
    return made


INAPPLICABLE = {**PLAIN_ROWS, "far": "codes are contiguous, and no matrix has 2^31 of them"}
FAULTS = (
    given("scales of another channel", "scale", lambda i: {"scales": i["scales"].roll(1, 0)}),
    given("bias dropped", "bias", lambda i: {"bias": None}),
)


def _byte_kernel(name: str, scheme: Scheme, codes: str) -> Kernel:
    return Kernel(
        name=name,
        launch=gemv_scaled,
        shared_workspace=shared,
        eager=project_scaled,
        cases=_cases(scheme),
        cost=cost,
        compilations=_scaled_compilations(codes),
        bench=_bench(scheme),
        inapplicable=INAPPLICABLE,
        absolute=absolute,
        mutants=FAULTS,
    )


GEMV_INT8 = _byte_kernel("gemv_int8", INT8, "*i8")
GEMV_FP8 = _byte_kernel("gemv_fp8", FP8, "*fp8e4nv")
GEMV_INT4 = Kernel(
    name="gemv_int4",
    launch=gemv_int4,
    shared_workspace=shared,
    eager=project_unpacked,
    cases=_cases(INT4),
    cost=cost,
    compilations=_int4_compilations,
    bench=_bench(INT4),
    inapplicable=INAPPLICABLE,
    absolute=absolute,
    mutants=(
        *FAULTS,
        given("zero points ignored", "offset", lambda i: {"zeros": torch.zeros_like(i["zeros"])}),
        given("zero points off by one", "offset", lambda i: {"zeros": i["zeros"] + 1}),
        given("halves of a byte exchanged", "stride", lambda i: {"codes": i["codes"] << 4 | i["codes"] >> 4}),
    ),
)
