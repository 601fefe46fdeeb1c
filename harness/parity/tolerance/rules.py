"""When a result is right: six rules that hold the candidate's error against the noise of the honest alternatives.

`o` is the candidate, `r` the reference in float64 on exactly the inputs that the candidate got, `p` plain code in the
target dtype, `rq` = `r` rounded once to it. With e_x = x - r, the noise of any statistic is the larger of its values
for e_p and e_rq.

Two refinements were measured on 60 seeds of RMSNorm, softmax, attention, split-K matmul and SwiGLU alternatives, in
four shapes from one element up and with plain, small, offset, constant and outlier inputs (8,400 correct results per
dtype):

- In float32 no element's noise is taken below half a unit in the last place of r. By luck `p` and `rq` may both hit
  `r` (always for constants: 30 false alarms of 30 in attention, 1 to 4 of 30 in tensors of one to seven elements),
  and no correct reordering can promise that. Zeros have no unit: they must be met exactly. In reduced precision a
  correct kernel rounds once from float32, so there the floor would only forgive. False alarms left: 8, of which 6 are
  exp2 against exp at logits near 300, where the argument itself carries the error.
- Gain and bias take errors that repeat along an axis as one sample. Attention over nearly equal values gives equal
  rows, which round alike: 3 false alarms of 60 before, none after. Left in bfloat16: 1, attention of a single query on
  outlier inputs, whose 32 outputs share one rounding of one probability.

A third came from two right answers that proofs on an H200 refused: a slice of 20 elements in which one outlier rules,
and the eight weights of one token's experts, which err together. The fewer elements a slice has, the larger is the
share of the overall noise that it is granted: 0.5 + 2 / sqrt(m) of it, and not half.

A fourth came from two right answers in float16 that a calibration on an H200 saw refused, by 1.06 and 1.11 of the limit
(benchmark_results/calibration): where the candidate and plain code round apart from each other, the error of a slice in
which one large element rules may be many times what the other two happen to have there. A slice is granted the noise of
its own size, too: the overall noise in units in the last place, and as large a share of it as few elements rule; and
the whole tensor counts as those that rule it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.parity.tolerance.bitwise import mismatches
from harness.parity.tolerance.error_statistics import (
    ALONG,
    CANDIDATE,
    ERROR,
    HALF_ULP,
    PLAIN,
    ROUNDED,
    SQUARE,
    Moments,
    measure,
)
from harness.records.checks import Check, Level


@dataclass(frozen=True)
class Factors:
    """How many times the noise a candidate's error may be."""

    maximum: float
    rms: float
    slice: float
    floor: float
    """Least noise of any element, in half units in the last place: 0 or 1."""


REDUCED = Factors(maximum=2.6, rms=1.25, slice=2.0, floor=0.0)
"""`maximum` is what leaves the largest error of a whole layer, over 30 seeds of right answers of four models, the room
that calibration asks for (benchmark_results/calibration)."""
SINGLE = Factors(maximum=12.0, rms=6.0, slice=14.0, floor=1.0)
"""Sums of a few hundred products on a GPU, in another order than the library: the largest of some 45,000 right answers
(24 kernels, up to 40 seeds) had 8, 3.7 and 6.2 times the noise, and 24 of them more than 4, 3 and 6 times. Decode
attention over peaked scores, whose exponents are rounded once more than the library's, had 10.2 in a slice (40 seeds).
The smallest fault that is planted, a thousandth of the answer, has thousands of times the noise."""
FACTORS = {torch.bfloat16: REDUCED, torch.float16: REDUCED, torch.float32: SINGLE}


@dataclass(frozen=True)
class _Subject:
    """What every check of one comparison has in common."""

    level: Level
    subject: str
    name: str

    def check(self, rule: str, error: float, noise: float, limit: float, where: str = "") -> Check:
        return Check(
            level=self.level,
            subject=self.subject,
            name=self.name,
            rule=rule,
            error=error,
            noise=noise,
            limit=limit,
            where=where,
        )


def judge(
    candidate: Tensor,
    reference: Tensor,
    plain: Tensor,
    *,
    level: Level,
    subject: str,
    name: str,
    exact: bool = False,
) -> list[Check]:
    """Every rule applied to one tensor; the candidate is right when all of them pass.

    A broken structure is returned alone: nothing else can be computed. Integer and boolean results, and any with
    `exact`, are compared bit for bit with the rounded reference. Raises HarnessError for a dtype without limits.
    """
    about = _Subject(level, subject, name)
    structure = _structure(about, candidate, reference, plain)
    if not structure.passed:
        return [structure]
    if exact or not candidate.is_floating_point():
        count, where = mismatches(candidate, reference.to(candidate.dtype))
        return [structure, about.check("exact", count, 0, 0, where)]
    if candidate.dtype not in FACTORS:
        raise HarnessError(f"{subject} {name}: {candidate.dtype} has no calibrated limits; judge it exact")
    k, found = FACTORS[candidate.dtype], measure(candidate, reference, plain)
    return [
        structure,
        about.check("mask", found.mask_mismatches, 0, 0, str(found.mask_at) if found.mask_mismatches else ""),
        _maximum(about, found, k),
        _rms(about, found, k),
        *_slices(about, found, k),
        _gain(about, found, k),
        _bias(about, found, k),
    ]


def worst(checks: Sequence[Check]) -> Check:
    """The check that used most of its limit: the one to record when all pass, the first to read when one fails."""
    return max(checks, key=lambda check: check.usage)


def relative_frobenius(candidate: Tensor, reference: Tensor) -> float:
    """|o - r| / |r| over all elements, in float64. Not finite when the candidate is not, or differs from all zeros."""
    error = torch.linalg.vector_norm(candidate.double() - reference.double()).item()
    scale = torch.linalg.vector_norm(reference.double()).item()
    return error / scale if scale else (math.inf if error else 0.0)


def _structure(about: _Subject, o: Tensor, r: Tensor, p: Tensor) -> Check:
    expected = {"shape": tuple(p.shape), "dtype": p.dtype, "device": p.device}
    actual = {"shape": tuple(o.shape), "dtype": o.dtype, "device": o.device}
    wrong = [f"{key} {actual[key]} instead of {want}" for key, want in expected.items() if actual[key] != want]
    if r.shape != p.shape:
        wrong.append(f"reference of shape {tuple(r.shape)}")
    return about.check("structure", len(wrong), 0, 0, ", ".join(wrong))


def _noise(rows: Sequence[float], floor: float) -> float:
    return max(rows[PLAIN], rows[ROUNDED], floor * rows[HALF_ULP])


def _maximum(about: _Subject, found: Moments, k: Factors) -> Check:
    noise = _noise(found.peak, k.floor)
    limit = k.maximum * (1 + 3 / math.sqrt(found.ruling_all)) * noise
    return about.check("max", found.peak[CANDIDATE], noise, limit, str(found.peak_at))


def _rms(about: _Subject, found: Moments, k: Factors) -> Check:
    rms = found.rms()
    noise = _noise(rms, k.floor / math.sqrt(3))
    return about.check("rms", rms[CANDIDATE], noise, k.rms * (1 + 3 / math.sqrt(found.ruling_all)) * noise)


def _slices(about: _Subject, found: Moments, k: Factors) -> list[Check]:
    """One check per axis longer than 1: the slice that used most of its limit. A slice's own noise is known the worse
    the fewer elements it has, so that less may be believed of one that is quieter than the whole, or than others of its
    size."""
    floor = k.floor / math.sqrt(3)
    overall = _noise(found.rms(), floor)
    in_units = overall / (found.rms()[HALF_ULP] or 1.0)
    checks = []
    for axis, length in enumerate(found.shape):
        if length < 2:
            continue
        m = found.counts[axis].clamp_min(1)
        error, plain, rounded, half_ulp = (found.sums[axis][SQUARE] / m).sqrt()
        noise = torch.maximum(torch.maximum(plain, rounded), floor * half_ulp)
        few = 1 / m.sqrt()
        usual = torch.maximum(overall * (0.5 + 2 * few), in_units * half_ulp * (0.5 + 2 / found.ruling(axis).sqrt()))
        limit = k.slice * (1 + 4 * few) * torch.maximum(noise, usual)
        index = int(torch.where(error > 0, error / limit, 0.0).argmax())
        picked = [float(x[index]) for x in (error, noise, limit)]
        where = f"axis={axis} index={index}{_range(error > limit)}"
        checks.append(about.check("slices", picked[0], picked[1], picked[2], where))
    return checks


def _range(wrong: Tensor) -> str:
    """Which slices of an axis are wrong, where several are: the first to the last."""
    places = wrong.nonzero().flatten()
    if len(places) < 2:
        return ""
    if len(places) == len(wrong):
        return EVERYWHERE
    return f" ({len(places)} of {len(wrong)} wrong, {int(places[0])} to {int(places[-1])})"


EVERYWHERE = " (all wrong)"


def span(checks: Sequence[Check]) -> str:
    """The slices that are wrong along every axis of which some are right; empty where there is none."""
    failed = (check.where for check in checks if check.rule == "slices" and not check.passed)
    return "; ".join(where for where in failed if not where.endswith(EVERYWHERE))


def _gain(about: _Subject, found: Moments, k: Factors) -> Check:
    """A common factor: rounding hides 0.1 % in every element and cannot hide it in the projection onto r."""
    scale = found.reference_square or 1.0
    gains = [abs(value) / scale for value in found.total(ALONG)]
    floor = math.sqrt(found.along_squares[HALF_ULP] / 3) * k.floor
    noise = max(found.spread(ALONG, PLAIN), found.spread(ALONG, ROUNDED), floor) / scale
    return about.check("gain", gains[CANDIDATE], noise, 2 * gains[PLAIN] + 5 * noise + 1e-6)


def _bias(about: _Subject, found: Moments, k: Factors) -> Check:
    """A common offset, in units of the RMS of r."""
    n = max(found.count, 1)
    scale = n * (math.sqrt(found.reference_square / n) or 1.0)
    means = [abs(value) / scale for value in found.total(ERROR)]
    floor = math.sqrt(found.total(SQUARE)[HALF_ULP] / 3) * k.floor
    noise = max(found.spread(ERROR, PLAIN), found.spread(ERROR, ROUNDED), floor) / scale
    allowance = 1e-6 if found.reference_square else 0.0
    return about.check("bias", means[CANDIDATE], noise, 2 * means[PLAIN] + 5 * noise + allowance)
