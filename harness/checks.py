"""What a case was judged by, and what the checks add up to."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from harness.case import Frozen

KERNELS_IN_PLACE = "kernels of the stack"
"""Subject of the check that every kernel of a stack ran; there is none where the stack has no kernel."""

NO_SHARE = 1e9
"""The usage of a limit of 0 that was broken."""

Level = Literal["op", "layer", "logits", "generation", "path"]


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


class Divergence(Frozen):
    """Where a wrong build first leaves the reference, in data-flow order."""

    layer: int | None
    stage: str
    op: str
    rule: str
    where: str
    error: float
    limit: float

    def sentence(self) -> str:
        place = f"layer {self.layer}, " if self.layer is not None else ""
        broken = f"rule {self.rule} at {self.where or 'all'}, {self.error:.3g} > {self.limit:.3g}"
        return f"{place}{self.stage} ({self.op}): {broken}"


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
    """File name of the saved case that fails, in the folder of this record; `python -m harness.replay` runs it."""
    wall_s: float = 0.0

    @property
    def passed(self) -> bool:
        """At least one check, and none broken."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)

    def place(self) -> str:
        """Where it first goes wrong, in words, and the kernels that are wrong by themselves; empty where nobody
        knows."""
        found = [item.sentence() for item in (self.first_divergence, self.drift) if item is not None]
        alone = Counter(check.subject for check in self.failures() if check.level == "op")
        if alone:
            found.append(f"by itself: {', '.join(f'{kernel} ({broken} checks)' for kernel, broken in alone.items())}")
        return "; ".join(found)

    def levels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(check.level for check in self.checks))
