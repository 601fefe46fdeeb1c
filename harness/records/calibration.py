"""How near right answers came to the gate's limits, and how often it refused one: a calibration on record."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records.case import Frozen
from harness.records.checks import Level
from harness.records.record import Environment

ROOM = 0.7
"""A limit of k times the noise holds when 99.9 % of right answers stay below this share of it."""
NEAR_ONE = {"rms": 1.25, "mean KL": 1.5}
"""Rules with a criterion of their own in the half types, with their k there. These two average over a whole tensor, so
that two equally right answers have nearly the same error and a ratio near 1 by construction: 0.7 k is 0.875 and 1.05,
and right answers could not stay below it. What has to have room is the excess over 1: the ratio must stay below
1 + ROOM (k - 1), which is 1.175 and 1.35. This is the weaker criterion of the two; all other rules, and these two in
float32, are held to ROOM."""
ALARM_RATE = {"float32": 1e-3}
"""The share of right answers of a kernel that may be refused, by dtype; none in the half types."""


class Quantiles(Frozen):
    """Shares of its limit that one rule's right answers used."""

    level: Level
    rule: str
    dtype: str
    n: int
    median: float
    q99: float
    q999: float
    most: float
    false_alarms: int
    """Right answers that the rule refused."""

    @property
    def holds(self) -> bool:
        return self.q999 < self.room

    @property
    def room(self) -> float:
        k = NEAR_ONE.get(self.rule, 0.0) if self.dtype != "float32" else 0.0
        return (1 + ROOM * (k - 1)) / k if k else ROOM


class KernelAlarms(Frozen):
    """How often the op level refuses a kernel that is taken to be right, over seeds of its menu."""

    kernel: str
    dtype: str
    n: int
    """Checks: outputs by their worst rule, and guards."""
    refused: int
    where: tuple[str, ...]
    """Seed, case, rule and place of each refusal: what it takes to draw it again."""


class Calibration(Frozen):
    """One model on one machine with one set of versions."""

    environment: Environment
    model: str
    size: str
    device: str
    seeds: tuple[int, ...]
    rules: tuple[Quantiles, ...]
    kernels: tuple[KernelAlarms, ...] = ()
    """Empty where only plain code was judged."""

    @property
    def holds(self) -> bool:
        return all(rule.holds for rule in self.rules) and all(
            self.kernel_alarms(dtype) <= ALARM_RATE.get(dtype, 0.0) for dtype in {one.dtype for one in self.kernels}
        )

    def kernel_alarms(self, dtype: str) -> float:
        """The share of the checks of all kernels in that dtype that refused."""
        mine = [one for one in self.kernels if one.dtype == dtype]
        return sum(one.refused for one in mine) / max(sum(one.n for one in mine), 1)

    def alarms(self) -> str:
        """How many right answers were refused, in one line."""
        plain = _refused([(rule.false_alarms, rule.n) for rule in self.rules])
        kernels = _refused([(one.refused, one.n) for one in self.kernels])
        judged = f", and {kernels} checks of kernels" if self.kernels else "; no kernel was among them"
        return f"{plain} right answers refused over {len(self.seeds)} seeds{judged}"


def _refused(counts: Sequence[tuple[int, int]]) -> str:
    refused, total = (sum(each) for each in zip(*counts, strict=True)) if counts else (0, 0)
    return f"{refused:,} of {total:,} ({refused / max(total, 1):.3%})"
