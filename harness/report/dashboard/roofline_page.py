"""Phases under the ceilings of the machine they ran on: how near each comes to what the hardware can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.records.case import gpus_first
from harness.report import formats
from harness.report.dashboard.entry import Entry


@dataclass(frozen=True)
class Spot:
    """One phase of one case: `number` names it on the chart and in the table."""

    number: int
    entry: Entry
    phase: str
    intensity: float
    """Flops per byte, by the model's own formulas."""
    flops_per_s: float
    fraction: float | None
    bound: str
    milliseconds: float

    @property
    def text(self) -> str:
        return (
            f"{self.number}: {self.entry.label}, {self.phase}, {formats.milliseconds(self.milliseconds)}, {self.share}"
        )

    @property
    def share(self) -> str:
        return f"{formats.percent(self.fraction)} of the {self.bound} floor" if self.fraction else "no floor is claimed"


@dataclass(frozen=True)
class Roof:
    """The ceilings of one kind of machine, as its newest record with both measured them."""

    hardware: str
    read_bytes_per_s: float
    matmul_flops_per_s: float
    dtype: str
    spots: tuple[Spot, ...]

    def reach(self) -> tuple[float, float, float, float]:
        """Least and largest intensity and rate of the axes."""
        ridge = self.matmul_flops_per_s / self.read_bytes_per_s
        intensities = [ridge, *(spot.intensity for spot in self.spots)]
        rates = [self.matmul_flops_per_s, *(spot.flops_per_s for spot in self.spots)]
        return min(intensities) / 2.5, max(intensities) * 4, min(rates) / 4, max(rates) * 2

    def rate(self, flops_per_s: float) -> str:
        return formats.rate(flops_per_s, "FLOP/s")

    def compute_label(self) -> str:
        return f"{self.dtype} matmul {formats.rate(self.matmul_flops_per_s, 'FLOP/s')}"

    def memory_label(self) -> str:
        return f"read {formats.rate(self.read_bytes_per_s, 'B/s')}"


def roofs(latest: Sequence[Entry]) -> tuple[Roof, ...]:
    """One for each hardware with measured ceilings; `latest` holds one record a case, the oldest first."""
    found = []
    for hardware in sorted({one.identity.hardware for one in latest}, key=gpus_first):
        mine = [one for one in latest if one.identity.hardware == hardware and one.speeds]
        measured = [one.ceilings for one in mine if one.ceilings]
        spots = _spots(sorted(mine, key=lambda one: one.label))
        if measured and spots:
            found.append(Roof(hardware, *measured[-1], spots))
    return tuple(found)


def _spots(entries: Sequence[Entry]) -> tuple[Spot, ...]:
    timed = [(one, speed) for one in entries for speed in one.speeds if speed.bytes and speed.flops]
    return tuple(
        Spot(
            number,
            one,
            speed.phase,
            (speed.flops or 0) / (speed.bytes or 1),
            (speed.flops or 0) / speed.candidate_ms * 1e3,
            speed.fraction,
            speed.bound,
            speed.candidate_ms,
        )
        for number, (one, speed) in enumerate(timed, 1)
    )
