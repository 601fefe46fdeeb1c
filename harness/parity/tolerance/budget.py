"""When a sum whose parts cancel is right: its error against float64, held to what float32 sums and a few roundings of
the answer leave.

Where the parts of a sum are a hundred times what is left of them, plain code may be noisy itself: a library that adds
the halves of a long sum in a half type would hide a kernel that does so, too. So the limit is no multiple of its noise.
Blocked summation in float32 errs by at most

    SUMMED * u32 * (sum of the absolute parts)

(Higham, Accuracy and Stability of Numerical Algorithms, section 4.2: the factor is the length of a block plus the
depth of the tree above it), and each rounding of the answer, or of a factor of it, adds one unit roundoff of the target
type. Partial sums in a half type err by its unit roundoff times the partial sum: thousands of times more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.parity.tolerance.rules import judge
from harness.records.checks import Check, Level

SUMMED = 64
"""Roundings of float32 that a part of the sum may meet one after another, those of a matrix unit that truncates
counted twice. Cases have sums of up to 512 parts; a test holds how much of the budget right kernels use."""
ROUNDED = 5
"""Roundings to the target type that an answer may have been through: its own, and those that its contract asks for on
the way, as those of a gate and its sigmoid, of what it opens, and of their product."""
UNIT = torch.finfo(torch.float32).eps / 2


def judge_canceling(
    candidate: Tensor, reference: Tensor, plain: Tensor, parts: Tensor, *, level: Level, subject: str, name: str
) -> list[Check]:
    """The rules structure, mask and budget on one tensor. `reference` is the answer in float64, `parts` the sum of the
    absolute values of what it adds up, in float64. Plain code's share of the budget is shown as noise."""
    found = judge(candidate, reference, plain, level=level, subject=subject, name=name)
    kept = [check for check in found if check.rule in ("structure", "mask")]
    if not kept[0].passed:
        return kept
    error, at = _used(candidate, reference, parts)
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), reference.shape))
    noise, _ = _used(plain, reference, parts)
    budget = Check(
        level=level, subject=subject, name=name, rule="budget", error=error, noise=noise, limit=1, where=str(index)
    )
    return [*kept, budget]


def _used(candidate: Tensor, reference: Tensor, parts: Tensor) -> tuple[float, int]:
    """The largest error in units of its budget, and the flat index of that element. What is not finite is left to the
    rule mask."""
    eps = torch.finfo(candidate.dtype).eps
    tiny = torch.finfo(candidate.dtype).tiny * eps
    budget = ROUNDED * eps / 2 * reference.abs() + SUMMED * UNIT * parts + tiny
    error = (candidate.double() - reference).abs()
    share = torch.where(reference.isfinite() & candidate.isfinite(), error / budget, 0.0).flatten()
    at = int(share.argmax())
    return float(share[at]), at
