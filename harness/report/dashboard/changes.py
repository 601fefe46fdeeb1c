"""The last record of each case against the one before, as rows: what is worth a look apart from what is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.analysis.compare.runs import Change, NotComparable
from harness.records.case import gpus_first
from harness.report import formats
from harness.report.cells import Tone
from harness.report.dashboard.gather import Difference
from harness.report.speed import VERDICT_TONES

APART: dict[str, Tone] = {
    "introduced": "bad", "lost": "bad", "fixed": "good", "added": "quiet", "not comparable": "open", "held": "quiet",
}  # fmt: skip
INSIGNIFICANT = frozenset({"same", "inconclusive", "held", "added"})


@dataclass(frozen=True)
class Row:
    difference: Difference
    word: str
    tone: Tone
    what: str
    """The phase; empty for a case as a whole."""
    effect: float
    """To sort by: how far the ratio is from 1."""
    ratio: str
    interval: str
    times: str
    detectable: str
    reason: str

    @property
    def insignificant(self) -> bool:
        return self.word in INSIGNIFICANT


def rows(differences: Iterable[Difference]) -> tuple[Row, ...]:
    """What became worse first, then what ran on GPUs, then the largest effect."""
    every = [row for difference in differences for row in _rows(difference)]
    return tuple(sorted(every, key=_first))


def _first(row: Row) -> tuple[bool, bool, bool, float]:
    on_cpu, _ = gpus_first(row.difference.after.identity.hardware)
    return row.tone != "bad", row.insignificant, on_cpu, -row.effect


def _rows(difference: Difference) -> Iterator[Row]:
    for found in difference.found:
        yield _apart(difference, found) if isinstance(found, NotComparable) else _change(difference, found)


def _apart(difference: Difference, found: NotComparable) -> Row:
    none = formats.NONE
    return Row(difference, found.word, APART[found.word], "", 0.0, none, none, none, none, found.reason)


def _change(difference: Difference, found: Change) -> Row:
    estimate = found.estimate
    return Row(
        difference,
        estimate.verdict,
        VERDICT_TONES[estimate.verdict],
        found.phase,
        found.effect,
        formats.ratio(estimate.speedup),
        formats.interval(estimate.low, estimate.high),
        f"{formats.milliseconds(found.base_ms)} → {formats.milliseconds(found.head_ms)}",
        formats.percent(estimate.minimum_detectable_effect),
        "; ".join(estimate.reasons),
    )
