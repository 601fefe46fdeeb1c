"""One case through all runs: its trends, what the last record changed, and every record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import get_args

from harness.analysis.history.nightly_rules import Finding
from harness.records.case import gpus_first
from harness.records.record import Phase
from harness.report.dashboard import trend_chart
from harness.report.dashboard.entry import Entry
from harness.report.dashboard.gather import Difference, GatheredColumn
from harness.report.dashboard.trend_chart import Trend

SPARK = 40
"""Newest points of a sparkline."""


@dataclass(frozen=True)
class CasePage:
    key: str
    """Of the case's identity."""
    records: tuple[Entry, ...]
    """The newest first."""
    trends: tuple[Trend, ...]
    difference: Difference | None

    @property
    def newest(self) -> Entry:
        return self.records[0]

    @property
    def name(self) -> str:
        return self.newest.identity.name

    @property
    def main(self) -> Trend | None:
        """Decode where it was timed."""
        return self.trends[-1] if self.trends else None

    @property
    def spark(self) -> tuple[float, ...]:
        return tuple(dot.speed for dot in self.main.dots[-SPARK:]) if self.main else ()


def pages(gathered: GatheredColumn, today: date) -> tuple[CasePage, ...]:
    """On GPUs first, then by label."""
    held: dict[str, list[Entry]] = {}
    for one in gathered.entries:
        held.setdefault(one.case, []).append(one)
    findings = {finding.series.name: finding for finding in gathered.findings}
    every = [_page(key, entries, findings, gathered, today) for key, entries in held.items()]
    return tuple(
        sorted(every, key=lambda page: (gpus_first(page.newest.identity.hardware)[0], page.newest.label, page.key))
    )


def _page(
    key: str, entries: Sequence[Entry], findings: Mapping[str, Finding], gathered: GatheredColumn, today: date
) -> CasePage:
    found = [
        trend_chart.build(entries, phase, findings.get(f"{key}:{phase}"), gathered.accepted, today)
        for phase in get_args(Phase)
    ]
    return CasePage(
        key, tuple(entries[::-1]), tuple(one for one in found if one is not None), gathered.differences.get(key)
    )
