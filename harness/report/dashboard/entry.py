"""What the site keeps of a record: enough for every page that is about many. The rest is on the pages of its run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis import stats
from harness.analysis.compare.anchor import speeds
from harness.analysis.compare.arms import PhaseComparison
from harness.records.case_identity import CaseIdentity
from harness.records.phase_machine import machine
from harness.records.record import INCONCLUSIVE, REFERENCE, Ceilings, Phase, Record
from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.records.timing_protocol import protocol
from harness.report import verdicts
from harness.report.cells import Tone


@dataclass(frozen=True, slots=True)
class Speed:
    """One timed phase. Ratios are the other arm's time over the candidate's, with 99 % intervals; 0 and infinity where
    there is none."""

    phase: Phase
    candidate_ms: float
    strongest: str
    """Label of the strongest baseline; empty without one."""
    verdict: str
    ratio: float
    low: float
    high: float
    reference: tuple[float, float, float] | None
    """Ratio, low and high against the reference."""
    measure: tuple[float, float, float] | None
    """What history goes by, with its interval: calls per second on a GPU, the ratio to the reference on a CPU."""
    machine: str
    """The fingerprint of what the phase depends on."""
    bytes: int | None
    flops: int | None
    """Of one call, by the model's own formulas."""
    fraction: float | None
    """Share of the floor that `bound` sets."""
    bound: str


@dataclass(frozen=True, slots=True)
class Entry:
    run: str
    """Of the file that holds the record."""
    key: str
    """Of the exact question."""
    case: str
    """Key of the case's identity."""
    identity: CaseIdentity
    protocol: str
    stack: str
    """By its short name."""
    members: str
    """Of the stack, where the short name is another; else empty."""
    label: str
    """With the short name."""
    workload: str
    status: str
    word: str
    tone: Tone
    sentence: str
    """The verdict on the record, as its own page says it."""
    started_at: str
    commit: str
    provisional: bool
    checks: int
    worst: float
    """Share of its limit that the worst check used."""
    speeds: tuple[Speed, ...]
    ceilings: tuple[float, float, str] | None
    """Read bytes and matmul flops per second and the dtype of the latter; all measured in the run."""
    faults: str
    """The kill matrix of the record in a sentence; empty without one."""

    @property
    def page(self) -> str:
        """Of this record, from the root of the site; a record that was never started has none."""
        return "" if self.status == "skipped" else f"runs/{self.run}/cases/{self.key}.html"

    @property
    def says_something(self) -> bool:
        """Of the case; a record that was lost, killed or never started says nothing."""
        return self.status not in INCONCLUSIVE and self.status != "skipped"

    @property
    def day(self) -> str:
        return self.started_at[:10]

    def speed(self, phase: str) -> Speed | None:
        return next((speed for speed in self.speeds if speed.phase == phase), None)


def entry(record: Record, run: str, phases: Sequence[PhaseComparison], names: StackNames = BY_MEMBERS) -> Entry:
    """`run` is that of its file, `phases` the judged speed of the record."""
    banner, environment = verdicts.of_case(record, phases), record.environment
    identity = CaseIdentity.of(record)
    stack, members = names.of(record.case.model, record.case.stacked()), record.case.stack()
    return Entry(
        run=run,
        key=record.key,
        case=identity.key,
        identity=identity,
        protocol=protocol(record),
        stack=stack,
        members="" if stack == members else members,
        label=names.label(record.case.label()),
        workload=record.case.workload.name,
        status=record.status,
        word=banner.word,
        tone=banner.tone,
        sentence=banner.sentence,
        started_at=record.started_at,
        commit=environment.commit if environment else "",
        provisional=record.provisional,
        checks=len(record.parity.checks) if record.parity else 0,
        worst=max((check.usage for check in record.parity.checks), default=0.0) if record.parity else 0.0,
        speeds=tuple(_speed(record, phase) for phase in phases),
        ceilings=_ceilings(record.ceilings),
        faults=record.kill_matrix.sentence() if record.kill_matrix else "",
    )


def _ceilings(found: Ceilings | None) -> tuple[float, float, str] | None:
    if found is None or not found.read_bytes_per_s or not found.matmul_flops_per_s:
        return None
    return found.read_bytes_per_s, found.matmul_flops_per_s, found.matmul_dtype or ""


def _own(record: Record, phase: PhaseComparison) -> tuple[float, float, float]:
    """Calls per second of the candidate, of blocks that were kept where there are any."""
    kept = [speed for blocks in speeds(record, phase.phase).values() for speed in blocks]
    found = stats.location(kept) if kept else stats.Interval(0.0, -math.inf, math.inf, 0)
    return 1e3 / phase.candidate_ms, math.exp(found.low), math.exp(found.high)


def _speed(record: Record, phase: PhaseComparison) -> Speed:
    best = verdicts.strongest(phase)
    reference = next((arm.estimate for arm in phase.against if arm.arm == REFERENCE), None)
    beside = (reference.speedup, reference.low, reference.high) if reference else None
    work = next((work for work in record.work if work.phase == phase.phase), None)
    return Speed(
        phase=phase.phase,
        candidate_ms=phase.candidate_ms,
        strongest=best.label if best else "",
        verdict=best.estimate.verdict if best else "inconclusive",
        ratio=best.estimate.speedup if best else 0.0,
        low=best.estimate.low if best else 0.0,
        high=best.estimate.high if best else float("inf"),
        reference=beside,
        measure=beside if record.case.on_cpu else _own(record, phase),
        machine=machine(record, phase.phase) or "",
        bytes=work.bytes if work else None,
        flops=work.flops if work else None,
        fraction=phase.roofline_fraction,
        bound=phase.bound or "",
    )
