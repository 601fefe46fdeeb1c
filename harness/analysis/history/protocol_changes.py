"""Where the protocol changed within a series: what came before is not judged with what came after. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from harness.analysis.history.nightly_rules import Point, Series


@dataclass(frozen=True)
class ProtocolChange:
    """The first point that was measured otherwise than the one before it."""

    before: Point
    after: Point

    def sentence(self) -> str:
        return f"`{self.before.protocol}` to `{self.after.protocol}` at {self.after.at}, run {self.after.run}"


def protocol_changes(series: Series) -> tuple[ProtocolChange, ...]:
    """The oldest first."""
    pairs = pairwise(series.points)
    return tuple(ProtocolChange(one, other) for one, other in pairs if one.protocol != other.protocol)
