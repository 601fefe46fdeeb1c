"""Error statistics of a candidate, the plain result and the once-rounded reference, in one pass over memory.

Everything is summed in float64 on the tensors' own device, a few million elements at a time, so that a tensor of 1e8
elements needs no second copy of itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 20
MIN_CLUSTERS = 8

CANDIDATE, PLAIN, ROUNDED, HALF_ULP = range(4)
"""Rows of every statistic: the error of the candidate, of the plain result, of the reference rounded once, and the
bound of that rounding (half a unit in the last place)."""
SQUARE, ERROR, ALONG = range(3)
"""RowParallel statistics of an error e: e^2, e, and e r."""


@dataclass(frozen=True)
class Moments:
    """Sums over the elements that are finite in the rounded reference; a `list` has one entry per row."""

    shape: tuple[int, ...]
    count: int
    """Elements that are finite in the rounded reference."""
    mask_mismatches: int
    """Elements whose NaN, +Inf or -Inf differs from the rounded reference, but for overflow at the edge of the type."""
    mask_at: tuple[int, ...]
    peak: list[float]
    """Largest absolute error."""
    peak_at: tuple[int, ...]
    """Index of the candidate's largest error."""
    sums: list[Tensor]
    """Per axis, the three statistics of the four rows: (3, 4, length of the axis)."""
    counts: list[Tensor]
    """Per axis: elements that the candidate, the plain result or rounding gets wrong, (length of the axis,). What all
    of them get right, as pages that nobody writes, is no sample of an error."""
    bound_fourths: list[Tensor]
    """Per axis, the fourth powers of the bound of rounding: (length of the axis,)."""
    along_squares: list[float]
    """<e^2, r^2>: the variance of <e, r> if errors were independent."""
    reference_square: float
    """<r, r>."""

    def total(self, statistic: int) -> list[float]:
        return [float(x) for x in self.sums[0][statistic].sum(-1)]

    def rms(self) -> list[float]:
        return [math.sqrt(square / max(self.samples, 1)) for square in self.total(SQUARE)]

    @property
    def samples(self) -> int:
        """Elements that somebody gets wrong."""
        return int(self.counts[0].sum())

    def ruling(self, axis: int) -> Tensor:
        """How many elements decide what the error of each slice may be: about as many as somebody gets wrong where all
        are of one size, and 1 where one of them outweighs the others."""
        return _ruling(self.sums[axis][SQUARE, HALF_ULP], self.bound_fourths[axis])

    @property
    def ruling_all(self) -> float:
        return float(_ruling(self.sums[0][SQUARE, HALF_ULP].sum(), self.bound_fourths[0].sum()))

    def spread(self, statistic: int, row: int) -> float:
        """Standard deviation of the total of `ERROR` or `ALONG` when errors are alike along an axis: rows that hold
        the same values round the same way, and are one sample, not many."""
        independent = self.total(SQUARE)[row] if statistic == ERROR else self.along_squares[row]
        clustered = [float(x[statistic, row].square().sum()) for x in self.sums if x.shape[-1] >= MIN_CLUSTERS]
        return math.sqrt(max([independent, *clustered]))


def measure(candidate: Tensor, reference: Tensor, plain: Tensor) -> Moments:
    """One pass over three tensors of equal shape; zero-dimensional ones are taken as one element."""
    o, r, p = (x.reshape(1) if x.ndim == 0 else x for x in (candidate, reference, plain))
    shape = tuple(o.shape)
    sums = [torch.zeros(3, 4, n, dtype=torch.float64, device=o.device) for n in shape]
    counts = [torch.zeros(n, dtype=torch.float64, device=o.device) for n in shape]
    fourths = [torch.zeros(n, dtype=torch.float64, device=o.device) for n in shape]
    scalars = torch.zeros(5, dtype=torch.float64, device=o.device)
    peak, peak_at = [0.0] * 4, (0,) * len(shape)
    mismatches, mask_at, finite = 0, (0,) * len(shape), 0
    for axis, start, length in _chunks(shape):
        o_, r_, p_ = (x.narrow(axis, start, length) for x in (o, r, p))
        rounded = r_.to(o.dtype)
        wrong = _mask_differs(o_, rounded) & ~_at_the_edge(o_, p_, rounded)
        if n := int(wrong.count_nonzero()):
            mask_at = mask_at if mismatches else _index(int(wrong.flatten().int().argmax()), wrong.shape, axis, start)
            mismatches += n
        keep = torch.isfinite(rounded)
        finite += int(keep.count_nonzero())
        errors, r64 = _errors(o_, p_, rounded, r_, keep)
        wrong_somewhere = errors[:HALF_ULP].ne(0).any(0)
        chunk_peak, at = errors.abs().flatten(1).max(1)
        if float(chunk_peak[CANDIDATE]) > peak[CANDIDATE]:
            peak_at = _index(int(at[CANDIDATE]), o_.shape, axis, start)
        peak = [max(a, b) for a, b in zip(peak, chunk_peak.tolist(), strict=True)]
        squared, r_squared = errors.square(), r64.square()
        statistics = torch.stack([squared, errors, errors * r64])
        for i in range(len(shape)):
            where = slice(start, start + length) if i == axis else slice(None)
            sums[i][..., where] += _sum_to(statistics, i + 2, keep_leading=2)
            counts[i][where] += _sum_to(wrong_somewhere, i, keep_leading=0)
            fourths[i][where] += _sum_to(squared[HALF_ULP].square(), i, keep_leading=0)
        scalars[:4] += squared.flatten(1) @ r_squared.flatten()
        scalars[4] += r_squared.sum()
    along = scalars.tolist()
    return Moments(shape, finite, mismatches, mask_at, peak, peak_at, sums, counts, fourths, along[:4], along[4])


def _ruling(squares: Tensor, fourths: Tensor) -> Tensor:
    return torch.where(fourths > 0, squares.square() / fourths, 1.0).clamp_min(1)


def _sum_to(tensor: Tensor, axis: int, keep_leading: int) -> Tensor:
    """Sum over every axis but the leading ones and `axis`."""
    others = [d for d in range(keep_leading, tensor.ndim) if d != axis]
    return tensor.sum(others) if others else tensor


def _chunks(shape: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(axis, start, length): pieces along the longest axis, none when the tensor is empty."""
    axis = max(range(len(shape)), key=lambda d: shape[d])
    if 0 in shape:
        return
    step = max(1, CHUNK_ELEMENTS // (math.prod(shape) // shape[axis]))
    for start in range(0, shape[axis], step):
        yield axis, start, min(step, shape[axis] - start)


def _mask_differs(o: Tensor, rounded: Tensor) -> Tensor:
    both_finite = torch.isfinite(o) & torch.isfinite(rounded)
    same = (o == rounded) | (torch.isnan(o) & torch.isnan(rounded))
    return ~(both_finite | same)


def _at_the_edge(o: Tensor, p: Tensor, rounded: Tensor) -> Tensor:
    """Where the reference stands beside the largest number of the type and plain code overflows just as the candidate
    does, or as little: a few roundings decide which side it falls on, and either is right."""
    info = torch.finfo(o.dtype)
    edge = info.max * (1 - 4 * info.eps)
    together = (o.abs() >= edge) & (p.abs() >= edge) & (rounded.abs() >= edge)
    return together & (o.sign() == rounded.sign()) & ~_mask_differs(o, p)


def _errors(o: Tensor, p: Tensor, rounded: Tensor, r: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The four rows, zero wherever the row or the rounded reference is not finite (the mask rule counts those). The
    bound is 0 at zeros, which every right result meets exactly, and where the other three rows are 0."""
    r64 = torch.where(keep, r.double(), 0.0)
    rows = torch.stack([o.double(), p.double(), rounded.double()]) - r64
    rows = torch.where(keep & torch.isfinite(rows), rows, 0.0)
    info = torch.finfo(o.dtype)
    exponent = torch.frexp(r64.abs().clamp_min(info.tiny)).exponent
    half_ulp = info.eps / 4 * torch.exp2(exponent.double())
    bound = torch.where((r64 == 0) | rows.eq(0).all(0), 0.0, half_ulp)
    return torch.cat([rows, bound.unsqueeze(0)]), r64


def _index(flat: int, shape: torch.Size, axis: int, start: int) -> tuple[int, ...]:
    index = [int(i) for i in torch.unravel_index(torch.tensor(flat), shape)]
    index[axis] += start
    return tuple(index)
