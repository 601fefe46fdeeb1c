"""What the decode products of a model are, and how their launches can be cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from harness.spec.kernel import Kernel, OpCase
from harness.spec.tuning import Launch, Tuning
from models.common.kernels import values
from models.common.kernels.workspace import Workspaces
from models.common.linear.eager import PackedLinear, pack_neighbors
from models.common.linear.gemv import GemvShape, block_rows, gemv, gemv_swiglu, needs, prefetch_fits
from models.common.linear.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.linear.tuned_shapes import product_sizes
from models.common.mlp.eager import SwiGLU

SHARED_BYTES = 227 << 10
"""Shared memory of a block on Hopper."""
MULTIPROCESSORS = 132
"""Of an H200: candidates fill them one to eight times."""
DECODED = ("layers.*", "lm_head")
"""Paths of what a decode step runs."""
FEW_ROWS = 8
"""Activation rows that stand for every number above one."""


@dataclass(frozen=True)
class Product:
    """x [m, k] times the weight [n, k] of `outputs` outputs, two rows of it to an output where they are paired."""

    outputs: int
    k: int
    paired: bool = False
    biased: bool = False

    @property
    def kernel(self) -> Kernel:
        return GEMV_SWIGLU if self.paired else GEMV

    @property
    def rows_per_output(self) -> int:
        return 2 if self.paired else 1


def product_tunings(model: nn.Module, dtype: torch.dtype, rows: int) -> Iterator[Tuning]:
    """Yield every product of a decode step of up to `rows` activation rows, those of most weights first."""
    found = products(model)
    for product_ in sorted(found, key=lambda each: -found[each] * each.outputs * each.k * each.rows_per_output):
        yield _tuning(product_, 1, 1, dtype)
        if rows > 1:
            yield _tuning(product_, min(FEW_ROWS, rows), (2, rows), dtype)


def products(model: nn.Module) -> Mapping[Product, int]:
    """Pack the neighbors of an eager model and return how often a step takes each of its products."""
    pack_neighbors(model)
    found: dict[Product, int] = {}
    gates = {f"{path}.gate_up" for path, module in model.named_modules() if isinstance(module, SwiGLU)}
    for path, module in model.named_modules():
        if not isinstance(module, PackedLinear | nn.Linear) or not any(fnmatchcase(path, each) for each in DECODED):
            continue
        n, k = module.weight.shape
        paired = path in gates
        made = Product(n // 2 if paired else n, k, paired, module.bias is not None)
        found[made] = found.get(made, 0) + 1
    return found


def _tuning(work: Product, m: int, rows: int | tuple[int, int], dtype: torch.dtype) -> Tuning:
    shapes = vector_shapes(work, dtype.itemsize) if m == 1 else matrix_shapes(work, m, dtype.itemsize)
    return Tuning(
        kernel=work.kernel,
        sizes={**product_sizes(m, work.outputs, work.k, dtype.itemsize), "rows": rows},
        case=partial(_case, work, m),
        launches=tuple(asdict(shape) for shape in shapes),
        cut=partial(_cut, work),
        refined=partial(_refined, work),
    )


def _case(work: Product, m: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> OpCase:
    n = work.outputs * work.rows_per_output
    inputs = {"x": values.normal((m, work.k), dtype, device, generator)}
    inputs["weight"] = values.normal((n, work.k), dtype, device, generator, scale=work.k**-0.5)
    if work.biased:
        inputs["bias"] = values.normal((n,), dtype, device, generator)
    return OpCase(f"M{m} N{n} K{work.k}", inputs)


def _cut(work: Product, launch: Launch) -> Callable[..., Mapping[str, Tensor]]:
    """With one workspace for all launches, as the layers of a model have."""
    shape, workspaces = GemvShape(**launch), Workspaces()

    def run(x: Tensor, **inputs: Any) -> Mapping[str, Tensor]:
        workspace = workspaces.get(needs(x.shape[0], work.outputs, shape, work.paired), x.device)
        return (gemv_swiglu if work.paired else gemv)(x, **inputs, shape=shape, workspace=workspace)

    return run


def vector_shapes(work: Product, element_size: int) -> Iterator[GemvShape]:
    """For one activation row: a warp's 16-byte loads cover 256 halves, so that block_k / 256 warps stand side by side;
    the tile stays within 64 float32 sums per thread."""
    loads = ((3, 1), (5, 1), (1, 2), (1, 4))
    for (warps, block_k), block_n, (stages, unroll) in product(
        ((1, 256), (2, 512), (4, 1024), (4, 512)), (2, 4, 8, 16), loads
    ):
        sums = block_n * work.rows_per_output * block_k // (32 * warps)
        in_flight = (stages - 1) * block_n * work.rows_per_output * block_k * element_size
        if sums <= 64 and in_flight <= 48 << 10 and -(-work.outputs // block_n) <= 40_000:
            yield GemvShape(block_n, block_k, warps, stages, unroll=unroll)


def matrix_shapes(work: Product, m: int, element_size: int) -> Iterator[GemvShape]:
    """For 2 to 64 rows: from one to eight programs per multiprocessor, tiles that fit into shared memory."""
    for block_n, block_k, stages, split_k in product((16, 32, 64, 128), (128, 256), (3, 4, 6), (1, 2, 4, 8)):
        tile_rows = block_rows(m) + block_n * work.rows_per_output
        programs = -(-work.outputs // block_n) * split_k
        fits = element_size * tile_rows * block_k * stages <= SHARED_BYTES
        enough = programs >= 0.7 * MULTIPROCESSORS and (split_k == 1 or programs <= 6 * MULTIPROCESSORS)
        if fits and enough and work.k >= split_k * block_k * 2:
            yield GemvShape(block_n, block_k, 8 if block_n == 128 else 4, stages, split_k)


def _refined(work: Product, launch: Launch) -> tuple[Launch, ...]:
    """The same with a prefetch of its weights, starting before the previous kernel ends, and both."""
    starts = ((0, True), (512, True), (2048, True), (512, False))
    early = (replace(GemvShape(**launch), pdl=pdl, prefetch=prefetch) for prefetch, pdl in starts)
    return tuple(asdict(shape) for shape in early if prefetch_fits(shape, work.outputs, work.k))
