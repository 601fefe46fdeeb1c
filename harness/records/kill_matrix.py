"""What became of every planted fault: how the gate that judged a case proved that it can fail."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from harness.errors import RecordError
from harness.records.case import Frozen
from harness.records.checks import Level, Parity

MODEL, RANKS = "model", "ranks"
"""Subjects that are no kernel: the built model, and several processes that hold it together."""


End = Literal["killed", "crash", "survived", "equivalent", "no place"]


class MutantOutcome(Frozen):
    """What became of one planted fault."""

    subject: str
    """A kernel, a rounding scheme, MODEL or RANKS."""
    name: str
    kind: str
    end: End
    """`crash`: refused because it raised. `equivalent`: declared so with its reason, and verified. `no place`:
    this build has nothing that could have this fault; not counted."""
    level: Level | None = None
    """The first level of the gate that saw it."""
    rule: str = ""
    where: str = ""
    """What was judged when it was seen."""
    dtype: str = ""
    reason: str = ""
    """Of an equivalence, a crash or a missing place."""


class KillMatrix(Frozen):
    """Every planted fault against the gate that judged this case. The gate had passed the build without faults."""

    outcomes: tuple[MutantOutcome, ...] = Field(min_length=1)
    wall_s: float = 0.0

    @property
    def killed(self) -> tuple[MutantOutcome, ...]:
        return tuple(item for item in self.outcomes if item.end in ("killed", "crash"))

    @property
    def crashed(self) -> tuple[MutantOutcome, ...]:
        """Those of the killed that the gate refused because they raised, and judged no number of."""
        return tuple(item for item in self.outcomes if item.end == "crash")

    @property
    def survivors(self) -> tuple[MutantOutcome, ...]:
        return tuple(item for item in self.outcomes if item.end == "survived")

    @property
    def judged(self) -> int:
        """Faults that a gate should see: those with a place, less the equivalent ones."""
        return len(self.killed) + len(self.survivors)

    @property
    def rate(self) -> float:
        return len(self.killed) / self.judged if self.judged else 0.0

    @property
    def complete(self) -> bool:
        """Every fault that can be told from the right thing was seen, and there was at least one."""
        return bool(self.killed) and not self.survivors

    def sentence(self) -> str:
        others = len(self.outcomes) - self.judged
        rest = f", {others} equivalent or without a place" if others else ""
        return f"{len(self.killed)} of {self.judged} planted faults seen ({self.rate:.1%}){rest}"

    def summary(self) -> str:
        """The sentence, and how many of the seen were seen because they crashed."""
        return f"{self.sentence()}; {len(self.crashed)} of those seen crashed" if self.crashed else self.sentence()


class SignOffEvidence(Frozen):
    """What a sign-off rests on. Without a complete kill matrix it cannot be constructed."""

    parity: Parity
    kill_matrix: KillMatrix

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if not self.parity.passed:
            raise RecordError("a sign-off without a passed parity")
        if not self.kill_matrix.complete:
            names = ", ".join(f"{item.subject}: {item.name}" for item in self.kill_matrix.survivors[:3])
            raise RecordError(f"a sign-off by a gate that is blind to planted faults: {names or 'none was seen'}")
        return self
