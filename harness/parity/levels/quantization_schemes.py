"""A rounding scheme by itself, on matrices that random weights never are: held against the bound that it promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.build.dtypes import dtype_name
from harness.build.quantized_reference import farthest
from harness.records.checks import UNBOUNDED, Check
from harness.spec.optimization import Scheme

NEAREST = 1.25
"""Of the bound, which the nearest code may reach."""
ROWS, CHANNELS = 16, 257
"""One input channel more than whole groups of any power of two."""
SPREAD = 0.05
"""Standard deviation of ordinary weights."""


def subject_of(scheme: Scheme) -> str:
    return f"rounding to {scheme.name}"


def check_scheme(scheme: Scheme, dtype: torch.dtype, device: torch.device) -> Check:
    """That no weight of a hard matrix in `dtype` moves farther than the nearest code can be."""
    found = [(name, farthest(x, scheme.rounded(x), scheme.bound(x))) for name, x in hard_matrices(dtype, device)]
    return nearest_code(subject_of(scheme), f"{len(found)} hard matrices {dtype_name(dtype)}", found)


def nearest_code(subject: str, name: str, moved: Sequence[tuple[str, float]]) -> Check:
    """Of matrices by name and how far each one's farthest weight moved, in units of what it may: the farthest."""
    where, error = max(moved, key=lambda pair: pair[1])
    return Check(
        level="layer",
        subject=subject,
        name=name,
        rule="nearest code",
        error=min(error, UNBOUNDED),
        noise=0,
        limit=NEAREST,
        where=where,
    )


def hard_matrices(dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Names and matrices [ROWS, CHANNELS], the same ones whenever they are asked for."""
    drawn = torch.randn(ROWS, CHANNELS, generator=torch.Generator().manual_seed(0)) * SPREAD
    return ((name, x.to(device, dtype)) for name, x in _hard(drawn, torch.finfo(dtype)))


def _hard(drawn: Tensor, numbers: torch.finfo) -> Iterator[tuple[str, Tensor]]:
    """`numbers`: of the dtype that the matrices will be in."""
    smallest, integers = numbers.smallest_normal, torch.arange(drawn.numel(), dtype=drawn.dtype).view_as(drawn)
    yield "both signs", drawn
    for sign, said in ((1, "positive"), (-1, "negative")):
        one_sided = sign * (drawn.abs() + SPREAD / 2)
        yield f"every weight {said}", one_sided
        yield f"every weight {said}, all far from 0", sign * (1 + drawn)
        yield (
            f"first half {said}, the rest of the other sign",
            torch.cat((one_sided[:, : CHANNELS // 2], -one_sided[:, CHANNELS // 2 :]), 1),
        )
        yield f"one {said} constant", torch.full_like(drawn, sign * SPREAD)
    yield "all 0", torch.zeros_like(drawn)
    yield "rows of 0 beside others", drawn * (torch.arange(ROWS)[:, None] % 2)
    for column in (0, CHANNELS // 2, CHANNELS - 1):
        outlier = drawn.clone()
        outlier[:, column] = torch.linspace(-50, 50, ROWS)
        yield f"outliers in channel {column}", outlier
    yield "last channel 0", torch.cat((drawn[:, :-1], torch.zeros(ROWS, 1)), 1)
    yield "subnormal", drawn / drawn.abs().max() * smallest
    yield "smallest numbers", integers % 128 * (smallest * numbers.eps)
    yield "around the smallest normal number", drawn / SPREAD * smallest
    yield "integers of four bits", integers % 16 - 7
    yield "-1, 0 and 1", integers % 3 - 1
