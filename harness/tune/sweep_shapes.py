"""What a sweep tries: the products and attentions of a Qwen3-4B decode step, and launch shapes worth compiling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from models.common.attention.decode_attention import MAX_SPLITS, AttentionShape
from models.common.linear.gemv import GemvShape, block_rows, prefetch_fits

ROWS = (1, 8, 32)
SHARED_BYTES = 227 << 10
MULTIPROCESSORS = 132
Kind = Literal["gemv", "swiglu"]


@dataclass(frozen=True)
class Product:
    """x [m, k] times weight [rows, k]."""

    name: str
    rows: int
    k: int
    kind: Kind

    @property
    def outputs(self) -> int:
        return self.rows // 2 if self.paired else self.rows

    @property
    def paired(self) -> bool:
        return self.kind == "swiglu"


PRODUCTS = (
    Product("qkv", 6144, 2560, "gemv"),
    Product("o", 2560, 4096, "gemv"),
    Product("gate_up", 19456, 2560, "swiglu"),
    Product("down", 2560, 9728, "gemv"),
    Product("lm_head", 151936, 2560, "gemv"),
)


def vector_shapes(job: Product) -> Iterator[GemvShape]:
    """For one activation row: a warp's 16-byte loads cover 256 elements, so that block_k / 256 warps stand side by
    side; the tile stays within 64 float32 sums per thread."""
    loads = ((3, 1), (5, 1), (1, 2), (1, 4))
    for (warps, block_k), block_n, (stages, unroll) in product(
        ((1, 256), (2, 512), (4, 1024), (4, 512)), (2, 4, 8, 16), loads
    ):
        per_output = 2 if job.paired else 1
        sums = block_n * per_output * block_k // (32 * warps)
        in_flight = (stages - 1) * block_n * per_output * block_k * 2
        if sums <= 64 and in_flight <= 48 << 10 and -(-job.outputs // block_n) <= 40_000:
            yield GemvShape(block_n, block_k, warps, stages, unroll=unroll)


def matrix_shapes(job: Product, m: int) -> Iterator[GemvShape]:
    """For 2 to 64 rows: from one to eight programs per multiprocessor, tiles that fit into shared memory."""
    for block_n, block_k, stages, split_k in product((16, 32, 64, 128), (128, 256), (3, 4, 6), (1, 2, 4, 8)):
        tile_rows = block_rows(m) + block_n * (2 if job.paired else 1)
        programs = -(-job.outputs // block_n) * split_k
        fits = 2 * tile_rows * block_k * stages <= SHARED_BYTES
        enough = programs >= 0.7 * MULTIPROCESSORS and (split_k == 1 or programs <= 6 * MULTIPROCESSORS)
        if fits and enough and job.k >= split_k * block_k * 2:
            yield GemvShape(block_n, block_k, 8 if block_n == 128 else 4, stages, split_k)


def early_starts(shape: GemvShape, job: Product) -> Iterator[GemvShape]:
    """The same shape with a prefetch of its weights, starting before the previous kernel ends, and both."""
    for ahead, pdl in ((0, True), (512, True), (2048, True), (512, False)):
        early = replace(shape, pdl=pdl, ahead=ahead)
        if prefetch_fits(early, job.outputs, job.k):
            yield early


@dataclass(frozen=True)
class Attention:
    """One decode step over `length` keys per row, each row one page."""

    batch: int
    length: int

    @property
    def name(self) -> str:
        return f"attention B{self.batch} {self.length}"


ATTENTIONS = (Attention(1, 1024), Attention(32, 1024), Attention(1, 32768), Attention(32, 8192))
KV_HEADS = 8


def attention_shapes(job: Attention) -> list[AttentionShape]:
    """From one to eight programs per multiprocessor, every shape once."""
    tiles = ((32, 2), (32, 4), (64, 4), (128, 4), (128, 8))
    shapes = (
        AttentionShape(block_n, warps, stages, _splits(job, block_n, programs))
        for (block_n, warps), stages, programs in product(tiles, (2, 3, 4), (1, 2, 4, 8))
    )
    return list(dict.fromkeys(shapes))


def _splits(job: Attention, block_n: int, programs: int) -> int:
    wanted = round(programs * MULTIPROCESSORS / (job.batch * KV_HEADS))
    return max(1, min(MAX_SPLITS, wanted, job.length // block_n))
