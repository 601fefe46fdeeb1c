"""Whether a kernel errs in one direction: the mean signed error over all ordinary draws of its menu.

Rounding to nearest pushes an element up as often as down. Truncation, dropped low bits or an exponential that is a
little too small push all of them one way, by less than the noise of any one of them, so that no rule for one tensor
sees it. Errors are taken in units in the last place of the float64 answer `r`, once plainly and once along the sign of
`r`, for what loses magnitude.

Half a unit of noise on each element is not needed to find the mean: the error of `r` rounded once, `rq`, is known to
have none, and neither has that of plain code `p` more than was measured. So the mean of `o - rq` and that of `o - p`
are what is judged; where a kernel rounds as one of them does, only the elements that differ are left.

The limit is the mean error that plain code has itself, what sampling allows, and a share of a unit for approximate
functions and sums of float32. Of sampling this much is assumed: that the sum of the errors over a block of neighbors
(256 blocks of a row, a head or a part of one: what shares an intermediate result) is as likely s as -s, independently
of other blocks. Then, given their magnitudes, P(|sum| > Z sqrt(sum of squares)) <= 2 exp(-Z^2 / 2) for any number of
blocks and any distribution of errors (Hoeffding). Elements whose answer occurred before are one sample with it: equal
inputs round alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.records.checks import Check

RULE = "rounding bias"
Z = 6.8
"""2 exp(-Z^2 / 2) is 1.8e-10 for one of the four means of a check: in 250,000 checks less than one in five thousand."""
BLOCKS = 256
FEWEST_BLOCKS = 64
"""Fewer than Z^2 could not fail; a menu so small has no such check."""
MOST = 1 << 13
"""Elements that one case adds, from all its rows: one large shape must not outweigh the others, nor take their time."""


@dataclass(frozen=True)
class Room:
    """What a right kernel of one type may have."""

    mean: float
    """Units in the last place of mean error, of functions and sums in float32 that are only nearly unbiased."""
    largest: float
    """Units in the last place at which an error is cut off: answers near 0 have small units, and one of them would
    outweigh all others."""


HALF = Room(mean=1 / 128, largest=4.0)
"""2^-18 of the answer in float16 and 2^-15 in bfloat16, some ten times the error of a device's fast exponential and
what a matrix unit truncates."""
SINGLE = Room(mean=2.0, largest=16.0)
"""A device's fast functions err by up to two units, to one side; float32 shows such errors in every single draw."""
ROOM: Mapping[torch.dtype, Room] = {torch.float16: HALF, torch.bfloat16: HALF, torch.float32: SINGLE}


@dataclass(frozen=True)
class Drawn:
    """Of the elements of one case that somebody had to round, flat: the answer in float64, and the errors of the
    candidate, of plain code and of the answer rounded once, in units in the last place."""

    answers: Tensor
    errors: Tensor
    """[3, elements]."""


CANDIDATE, PLAIN, ROUNDED = range(3)


def drawn(o: Tensor, r: Tensor, p: Tensor) -> Drawn:
    """The samples of one output of one case: `o` and `p` of the judged type, `r` their float64 reference."""
    flat_o, flat_p, flat_r = (_some_rows(x).double() for x in (o, p, r))
    rounded = _some_rows(r).to(o.dtype).double()
    info, room = torch.finfo(o.dtype), ROOM[o.dtype]
    unit = info.eps * torch.exp2(torch.frexp(flat_r).exponent.double() - 1)
    errors = (torch.stack([flat_o, flat_p, rounded]) - flat_r) / unit
    sound = torch.isfinite(errors).all(0) & (flat_r.abs() >= info.tiny)
    kept = sound & errors.ne(0).any(0)
    return Drawn(flat_r[kept].cpu(), errors[:, kept].clamp(-room.largest, room.largest).cpu())


def _some_rows(x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
    return rows[:: max(1, -(-x.numel() // MOST))].flatten()


@dataclass
class SignedErrors:
    """Collects the draws of a kernel's menu, by the name and the type of the output."""

    draws: dict[tuple[str, torch.dtype], list[Drawn]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, o: Tensor, r: Tensor, p: Tensor) -> None:
        """Leaves out what has another structure than plain code, which is refused by that."""
        if o.dtype in ROOM and (o.shape, o.dtype, o.device) == (p.shape, p.dtype, p.device) and o.numel():
            self.draws[name, o.dtype].append(drawn(o, r, p))

    def checks(self, subject: str) -> list[Check]:
        """One check per output and type of which there are samples enough."""
        made = []
        for (name, dtype), every in self.draws.items():
            answers, errors = _distinct(torch.cat([d.answers for d in every]), torch.cat([d.errors for d in every], 1))
            if len(answers) >= FEWEST_BLOCKS:
                made.append(_check(subject, name, answers, errors, ROOM[dtype]))
        return made


def _distinct(answers: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """The first of all elements that have the same answer, in their order."""
    values, which = answers.unique(return_inverse=True)
    first = torch.full((len(values),), len(answers)).scatter_reduce(0, which, torch.arange(len(answers)), "amin")
    kept = first.sort().values
    return answers[kept], errors[:, kept]


def _check(subject: str, name: str, answers: Tensor, errors: Tensor, room: Room) -> Check:
    """The mean that used most of its limit."""
    plain = errors[PLAIN] - errors[ROUNDED]
    found = []
    for way, sign in (("upward", torch.ones_like(answers)), ("away from zero", answers.sign())):
        noise = abs(float((plain * sign).mean()))
        alone, beside = errors[CANDIDATE] - errors[ROUNDED], errors[CANDIDATE] - errors[PLAIN]
        for difference, own, spread in (
            (alone, noise, math.hypot(_spread(alone * sign), _spread(plain * sign))),
            (beside, 2 * noise, _spread(beside * sign)),
        ):
            mean = float((difference * sign).mean())
            limit = own + Z * spread + room.mean
            found.append((abs(mean) / limit, mean, noise, limit, way))
    _, mean, noise, limit, way = max(found)
    return Check(
        level="op",
        subject=subject,
        name=f"ordinary cases: {name}",
        rule=RULE,
        error=abs(mean),
        noise=noise,
        limit=limit,
        where=f"{mean:+.3g} {way}, of {len(answers):,} elements",
    )


def _spread(errors: Tensor) -> float:
    """What one standard deviation of the mean is at most, from the sums over blocks."""
    size = max(1, len(errors) // BLOCKS)
    whole = len(errors) // size * size
    sums = [*errors[:whole].view(-1, size).sum(1).square().tolist(), float(errors[whole:].sum()) ** 2]
    return math.sqrt(sum(sums)) / len(errors)
