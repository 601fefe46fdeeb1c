"""Faults by somebody who had not read the gate, what became of each, and how many of them were refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, get_args

from pydantic import Field, field_validator

from harness.records.case import Frozen
from harness.records.checks import Level

Kind = Literal[
    "reference_reach",
    "trained_statistics",
    "smaller_than_timed",
    "order_of_calls",
    "unjudged_stage",
    "inside_noise",
    "masking",
    "indexing",
    "dtype",
    "stale_state",
    "collective",
    "shape_dispatch",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The first six are those that a gate is blind to by how it is built: the candidate changes what it is held against; it
shows on statistics of trained weights alone; past the sizes that are proven; in an unusual order of calls; in a stage
that nobody feeds the reference's input; or less than rounding does."""

End = Literal["refused", "passed", "crashed", "stale"]
"""Whether the record says that parity failed, or passed; whether there is no such judgment; or whether the patch does
not apply to these sources any more."""
OWN = "own"


class BlindFault(Frozen):
    """A change to the models that a user would call wrong, as the file beside its patch describes it."""

    model: str
    kind: Kind
    source: str = Field(pattern=rf"^({OWN}|https://\S+)$")
    """The public report that it was written from, or `own`."""
    visible: str = Field(min_length=1)
    """Where a user would see it."""
    why: str = Field(min_length=1)
    """What is wrong there."""
    written_before: str = Field(pattern="^[0-9a-f]{40}$")
    """The commit that its author had read, of the models alone."""
    hardware: str | None = None
    """What it needs where any will not do: a fault of ranks shows on several of them."""
    options: tuple[str, ...] = ()
    """Of the command that should refuse it, beside model and hardware."""
    must_refuse: tuple[str, ...] = ()
    """Kinds of machine on which passing it is an error."""


class BlindResult(Frozen):
    """What became of a fault at a commit on a kind of machine: one line of a results file."""

    fault: str
    commit: str
    hardware: str
    end: End
    level: Level | None = None
    """Of the first check that broke, of a refused one."""
    check: str = ""
    """That check: what it judged, and by which rule."""
    place: str = ""
    """Where the gate says that the build first goes wrong."""
    broken: int = 0
    """How many checks broke."""
    why: str = ""
    """What ended a crashed one, or where the patch of a stale one does not apply."""
    wall_s: float = 0.0

    @field_validator("why")
    @classmethod
    def _short(cls, value: str) -> str:
        return value if len(value) <= 300 else f"{value[:299]}…"

    @property
    def machine(self) -> str:
        return machine_of(self.hardware)


def machine_of(hardware: str) -> str:
    """The kind of device, however many of them there are: `cpu` of `cpu_x4`."""
    return hardware.partition("_x")[0]


@dataclass(frozen=True)
class Tally:
    """How many of some faults ended how. A crash is no judgment, and a stale patch none either."""

    ends: Mapping[str, int]

    @classmethod
    def of(cls, results: Iterable[BlindResult]) -> Self:
        return cls(Counter(result.end for result in results))

    @property
    def refused(self) -> int:
        return self.ends.get("refused", 0)

    @property
    def judged(self) -> int:
        return self.refused + self.ends.get("passed", 0)

    def words(self, refused: str = "") -> str:
        """`5 of 7, 1 crashed`, with `refused` behind the share where it is given."""
        share = f"{self.refused} of {self.judged}" + (f" {refused}" if refused else "")
        return ", ".join([share, *(f"{self.ends[end]} {end}" for end in ("crashed", "stale") if self.ends.get(end))])


def first(results: Iterable[BlindResult]) -> dict[str, BlindResult]:
    """Of each fault the oldest result, made while nobody had repaired the gate for it."""
    found: dict[str, BlindResult] = {}
    for result in results:
        found.setdefault(result.fault, result)
    return found


def last(results: Iterable[BlindResult]) -> dict[str, BlindResult]:
    """Of each fault the newest result."""
    return {result.fault: result for result in results}
