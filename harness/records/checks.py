"""What a case was judged by, and what the checks add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from harness.records.case import Frozen
from harness.records.error_units import describe
from harness.records.standing_verdict import StandingVerdict
from harness.records.weight_statistics import Statistic

KERNELS_IN_PLACE = "kernels of the stack"
"""Subject of the check that every kernel of a stack ran; there is none where the stack has no kernel."""

NO_SHARE = 1e9
"""The usage of a limit of 0 that was broken."""

UNBOUNDED = 1e9
"""The error in a record of what is off without end: JSON has no infinity."""

NAMED = 4
"""Subjects that a sentence about broken checks names."""

Level = Literal["reference", "op", "layer", "logits", "generation", "path"]
"""What a check is of: the reference itself, whether it stayed what it was, or a level of the candidate."""
SINCE: Mapping[str, int] = {"reference": 7}
"""Level -> schema version of the first records that hold it; the others always did."""


class Check(Frozen):
    """One comparison. `error` against `limit`; `noise` is the error of the honest alternative that set the limit."""

    level: Level
    subject: str
    """What was judged: a kernel, `layer 3`, `logits float32`, a path such as `chunked prefill`."""
    name: str
    """Which input or output of it."""
    rule: str
    """The rule that came closest to its limit (or broke it)."""
    error: float
    noise: float
    limit: float
    where: str = ""
    """Index of the worst element or slice."""

    @property
    def passed(self) -> bool:
        return self.error <= self.limit

    @property
    def usage(self) -> float:
        """Share of the limit that is used; above 1 is a failure."""
        return self.error / self.limit if self.limit else float(self.error > 0) * NO_SHARE

    def describe(self) -> str:
        """Its error in words."""
        return describe(self.rule, self.error, self.limit)


class Divergence(Frozen):
    """Where a wrong build first leaves the reference, in data-flow order."""

    layer: int | None
    stage: str
    op: str
    rule: str
    where: str
    error: float
    limit: float

    @classmethod
    def of(cls, check: Check, layer: int | None = None, stage: str = "", op: str = "") -> Self:
        """What a broken check stands for, by the names that it has itself unless others are given."""
        return cls(
            layer=layer,
            stage=stage or check.subject,
            op=op or check.name,
            rule=check.rule,
            where=check.where,
            error=check.error,
            limit=check.limit,
        )

    @property
    def subject(self) -> str:
        """That of the checks which tell of the same."""
        return self.stage if self.layer is None else f"layer {self.layer}"

    def place(self) -> str:
        layer = f"layer {self.layer}, " if self.layer is not None else ""
        return f"{layer}{self.stage} ({self.op})"

    def sentence(self) -> str:
        allowed = f"{self.limit:.3g}" if self.limit else "none"
        rule = f"rule {self.rule}: {self.where}" if self.where else f"rule {self.rule}"
        return f"{self.place()}: {describe(self.rule, self.error, self.limit)}, {allowed} allowed ({rule})"


class Drift(Frozen):
    """Where a build that runs free first errs otherwise than the plain model does."""

    layer: int
    ratio: float
    """The error behind that layer, in units of the plain model's."""

    def sentence(self) -> str:
        return (
            f"running free, the error first leaves the plain model's behind layer {self.layer}: {self.ratio:.3g} times"
        )


class NotJudged(Frozen):
    """A check that was asked for and could not run here, with its reason."""

    level: Level
    subject: str
    reason: str


class Parity(Frozen):
    checks: tuple[Check, ...]
    not_judged: tuple[NotJudged, ...] = ()
    first_divergence: Divergence | None = None
    """Teacher-forced: every layer is given what the plain model gives it."""
    drift: Drift | None = None
    """Running free, of a build that fails; None also where its errors are like the plain model's all the way."""
    reproducer: str | None = None
    """File name of the saved case that fails, in the folder of this record; `python -m harness replay` runs it."""
    wall_s: float = 0.0
    statistics: tuple[Statistic, ...] | None = None
    """What the weights were like that it was judged with. None in records before version 7."""
    dispatches: tuple[str, ...] | None = None
    """Which launches the whole model was judged with in the type that is timed, sorted: of Triton functions and of
    kernels of our own. None in records before version 7."""
    standing: tuple[StandingVerdict, ...] = ()
    """Kernels whose op-level checks another run made of the same sources on the same kind of device."""

    @property
    def passed(self) -> bool:
        """At least one check, and none broken."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    def first(self) -> Divergence | None:
        """Where it first goes wrong, or the check that is furthest over its limit; None where none is broken."""
        worst = max(self.failures(), key=lambda check: check.usage, default=None)
        return self.first_divergence or (Divergence.of(worst) if worst else None)

    def refusal(self) -> str:
        """What broke: where first, how many checks and of what else, and which kernels are wrong without the model;
        empty where nobody knows."""
        first = self.first()
        found = [] if first is None else [first.sentence()]
        found += [] if self.drift is None else [self.drift.sentence()]
        if failures := self.failures():
            count = f"{len(failures):,} of {len(self.checks):,} checks broken"
            found.append(f"{count}{_others(failures, first)}")
        alone = Counter(check.subject for check in failures if check.level == "op")
        if alone:
            kernels = ", ".join(f"{kernel} ({broken} of its checks)" for kernel, broken in alone.items())
            found.append(f"kernels that are wrong when they run alone, outside the model: {kernels}")
        return "; ".join(found)

    def levels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(check.level for check in self.checks))


def named(subjects: Sequence[str]) -> str:
    """The first few, each once, and how many more there are."""
    distinct = list(dict.fromkeys(subjects))
    rest = len(distinct) - NAMED
    return ", ".join(distinct[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _others(failures: Sequence[Check], first: Divergence | None) -> str:
    """What is broken besides `first`, each subject by the first of its checks; kernels are told of apart."""
    found: dict[str, str] = {}
    for check in failures:
        if check.level != "op" and (first is None or check.subject != first.subject):
            found.setdefault(check.subject, f"{check.subject} ({check.describe()})")
    return f", also {named(list(found.values()))}" if found else ""
