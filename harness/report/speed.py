"""Speed as tables and as marks for charts: intervals of every arm, and raw samples block by block."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analysis.compare import floors
from harness.records.record import CANDIDATE, CONTROL, Ceilings, KernelTime, Phase, Record
from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.report import formats
from harness.report.cells import Cell, Fact, Table, Tone, columns, row

if TYPE_CHECKING:
    from harness.analysis.compare.arms import ArmComparison, PhaseComparison
    from harness.analysis.compare.estimate import Estimate
    from harness.analysis.compare.verdict import Verdict

ARM_COLUMNS = columns("Arm", "Time per call#", "Speed-up#", "99 % interval#", "Pairs#", "Detectable change#", "Verdict")
FIELDS: dict[Phase, tuple[str, str]] = {
    "prefill": ("Time to first token", "prompt tokens"),
    "decode": ("Time per output token", "new tokens"),
}
"""What a phase is called where inference is served, and what it counts."""
CALLS = {"prefill": "one prefill", "decode": "one decode step"}
VERDICT_TONES: dict[Verdict, Tone] = {
    "faster": "good",
    "same": "quiet",
    "slower": "bad",
    "inconclusive": "open",
    "invalid": "bad",
}


@dataclass(frozen=True)
class IntervalMark:
    """One line of the speed chart: a ratio and its 99 % interval, None where there is none."""

    title: str
    note: str
    ratio: float
    low: float | None
    high: float | None
    verdict: str
    text: str


@dataclass(frozen=True)
class SampleMark:
    """One raw sample. `position` counts the blocks of a phase through all processes."""

    arm: str
    process: int
    position: int
    milliseconds: float
    dropped: bool


@dataclass(frozen=True)
class PhaseView:
    phase: str
    headline: str
    """The candidate's own time, in words."""
    facts: tuple[Fact, ...]
    arms: Table
    marks: tuple[IntervalMark, ...]
    """The candidate against every arm."""
    headline_mark: IntervalMark | None
    """The candidate against the strongest baseline, told with its case."""
    samples: tuple[SampleMark, ...]


def phase_view(record: Record, found: PhaseComparison, names: StackNames = BY_MEMBERS) -> PhaseView:
    case = record.case
    stack = names.of(case.model, case.stacked())
    judged = [arm for arm in found.against if math.isfinite(arm.estimate.speedup)]
    best = next((arm for arm in judged if arm.arm == found.strongest), None)
    return PhaseView(
        phase=found.phase,
        headline=f"candidate {formats.milliseconds(found.candidate_ms)} for {CALLS[found.phase]}",
        facts=_facts(record, found),
        arms=Table(f"{found.phase}: the candidate against every arm", ARM_COLUMNS, _arm_rows(found)),
        marks=tuple(_mark(arm, arm.label, _standing(found, arm)) for arm in judged),
        headline_mark=_mark(best, f"{case.model}/{case.size} {found.phase}", stack) if best else None,
        samples=sample_marks(record, found.phase),
    )


def sample_marks(record: Record, phase: Phase) -> tuple[SampleMark, ...]:
    """Every sample of a phase, the candidate first, none left out."""
    timed = [series for series in record.series if series.phase == phase]
    taken = sorted({(series.process, block) for series in timed for block in series.blocks})
    position = {at: number for number, at in enumerate(taken)}
    dropped = {(block.process, block.index) for block in record.blocks if block.phase == phase and block.dropped}
    labels = arm_labels(record)
    return tuple(
        SampleMark(labels[series.arm], series.process, position[at], sample, at in dropped)
        for series in sorted(timed, key=lambda series: series.arm not in (CANDIDATE, CONTROL))
        for at, sample in zip(((series.process, block) for block in series.blocks), series.samples_ms, strict=True)
    )


def arm_labels(record: Record) -> dict[str, str]:
    """Arm name -> what a reader calls it, the candidate first; arms that share a label are told apart by name."""
    labels = {series.arm: series.arm for series in record.series} | {arm.name: arm.label for arm in record.arms}
    labels = dict(sorted(labels.items(), key=lambda item: item[0] not in (CANDIDATE, CONTROL)))
    counts = Counter(labels.values())
    return {name: label if counts[label] == 1 else f"{label} ({name})" for name, label in labels.items()}


def kernels_table(record: Record) -> Table:
    """Each kernel beside its eager twin and the ceilings of the run. All but the hot time is with cold caches."""
    names = columns(
        "Kernel",
        "Shape",
        "Median, cold#",
        "99 % interval#",
        "n#",
        "Median, hot#",
        "Traffic#",
        "Of read ceiling#",
        "Of matmul ceiling#",
        "Eager twin is#",
    )
    ceilings = record.ceilings or Ceilings()
    compute = ceilings.matmul_flops_per_s if ceilings.matmul_dtype == record.case.workload.dtype else None
    rows = tuple(
        row(
            kernel.kernel,
            kernel.case,
            _cold(record, kernel),
            f"{formats.significant(kernel.low_ms)}–{formats.significant(kernel.high_ms)} ms",
            f"{kernel.n:,}",
            formats.NONE if kernel.hot_ms is None else formats.milliseconds(kernel.hot_ms),
            formats.rate(kernel.bytes / kernel.median_ms * 1e3, "B/s"),
            _fraction(kernel.bytes, kernel.median_ms, ceilings.read_bytes_per_s),
            _fraction(kernel.flops, kernel.median_ms, compute),
            f"{formats.ratio(kernel.twin_ms / kernel.median_ms)} its time{_host(kernel.twin_from_host)}",
        )
        for kernel in record.kernels
    )
    return Table("Kernels at real shapes", names, rows)


def _cold(record: Record, kernel: KernelTime) -> Cell:
    """The cold time, with the reason where it cannot be one."""
    text = f"{formats.milliseconds(kernel.median_ms)}{_host(kernel.from_host)}"
    invalid = floors.below(kernel.median_ms, floors.of_kernel(record, kernel)[0])
    return Cell(text, f"invalid: {'; '.join(invalid)}" if invalid else "", "bad" if invalid else None)


def _host(reason: str | None) -> str:
    """What a reader must know of a time that no CUDA graph gave."""
    return ", the host's included" if reason else ""


def ceiling_text(ceilings: Ceilings | None) -> str:
    """The ceilings measured in the same run, in words."""
    if ceilings is None:
        return "not measured"
    parts = [
        f"{name} {formats.rate(value, 'B/s')}"
        for name, value in (("read", ceilings.read_bytes_per_s), ("copy", ceilings.copy_bytes_per_s))
        if value
    ]
    if ceilings.matmul_flops_per_s:
        parts.append(f"{ceilings.matmul_dtype} matmul {formats.rate(ceilings.matmul_flops_per_s, 'FLOP/s')}")
    return ", ".join(parts) or "not measured"


def _facts(record: Record, found: PhaseComparison) -> tuple[Fact, ...]:
    processes = len({series.process for series in record.series if series.phase == found.phase})
    first, tokens = FIELDS[found.phase]
    shape = record.case.workload
    made = shape.batch * (shape.prompt_tokens if found.phase == "prefill" else 1)
    taken = f"{found.total_blocks} in {formats.number_of(processes, 'process', 'processes')}"
    return (
        Fact(first, formats.milliseconds(found.candidate_ms)),
        Fact("Throughput", f"{made / found.candidate_ms * 1e3:,.0f} {tokens} a second, {shape.batch} at a time"),
        Fact("Roofline", _roofline(record, found)),
        Fact("Measured ceilings", ceiling_text(record.ceilings)),
        Fact("A/A (candidate against itself)", _self_check(found.again)),
        Fact("Blocks", f"{taken}, {found.dropped_blocks} dropped"),
    )


def _roofline(record: Record, found: PhaseComparison) -> str:
    if found.roofline_fraction is None or found.floor_ms is None:
        return "no floor is claimed"
    floor = formats.milliseconds(found.floor_ms)
    visited = next((work.experts for work in record.work if work.phase == found.phase), None)
    told = "" if visited is None else f", {visited:.3g} experts visited in a layer that chooses"
    return f"{formats.percent(found.roofline_fraction)} of the {found.bound} floor {floor}{told}"


def _self_check(again: Estimate | None) -> str:
    if again is None:
        return "not timed"
    return f"{again.verdict}, {formats.ratio(again.speedup)} ({formats.interval(again.low, again.high)})"


def _arm_rows(found: PhaseComparison) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        row(
            Cell(arm.label, _standing(found, arm)),
            formats.milliseconds(arm.median_ms),
            formats.ratio(arm.estimate.speedup),
            formats.interval(arm.estimate.low, arm.estimate.high),
            f"{arm.estimate.n:,}",
            formats.percent(arm.estimate.minimum_detectable_effect),
            Cell(arm.estimate.verdict, "; ".join(arm.estimate.reasons), VERDICT_TONES[arm.estimate.verdict]),
        )
        for arm in found.against
    )


def _standing(found: PhaseComparison, arm: ArmComparison) -> str:
    return "strongest baseline" if arm.arm == found.strongest else ""


def _mark(arm: ArmComparison, title: str, note: str) -> IntervalMark:
    estimate = arm.estimate
    bounded = estimate.low > 0 and math.isfinite(estimate.high)
    return IntervalMark(
        title=title,
        note=note,
        ratio=estimate.speedup,
        low=estimate.low if bounded else None,
        high=estimate.high if bounded else None,
        verdict=estimate.verdict,
        text=f"{formats.ratio(estimate.speedup)} {estimate.verdict}",
    )


def _fraction(amount: float, time_ms: float, ceiling_per_s: float | None) -> str:
    return formats.percent(amount / (time_ms * 1e-3) / ceiling_per_s) if ceiling_per_s and amount else formats.NONE
