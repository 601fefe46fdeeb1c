"""One record as the view of its page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records.case import Case
from harness.records.gate_evidence import GateRecords
from harness.records.record import Environment, Failure, ReceiptNote, Record
from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.report import compiled, formats, gate_section, judged, machine, mutants, speed, statistics_table, verdicts
from harness.report.cells import Banner, Fact, Table
from harness.report.judged import LevelView
from harness.report.mutants import MutantsView
from harness.report.speed import PhaseView

if TYPE_CHECKING:
    from harness.analysis.compare.arms import PhaseComparison


@dataclass(frozen=True)
class MachineView:
    """One environment, and the command that reproduces what ran in it."""

    title: str
    facts: tuple[Fact, ...]
    command: str


@dataclass(frozen=True)
class Receipt:
    """What one optimization touched."""

    optimization: str
    summary: str
    touched: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CaseView:
    """The page of one case; None where the record holds nothing of the kind."""

    key: str
    name: str
    detail: str
    banner: Banner
    facts: tuple[Fact, ...]
    refusal: str | None
    reproducer: str | None
    """The command that runs the saved failure again."""
    mutants: MutantsView | None
    gate: tuple[str, ...]
    """What is on record of the gate that judged it."""
    levels: tuple[LevelView, ...]
    not_judged: Table | None
    statistics: Table | None
    """What the weights were like that it was judged with."""
    receipts: tuple[Receipt, ...]
    phases: tuple[PhaseView, ...]
    timing_notes: tuple[str, ...]
    kernels: Table | None
    compiled: Table | None
    """Kernels that were compiled ahead of time for a GPU that is not here."""
    ceilings: str
    arms: Table | None
    telemetry: Table | None
    disturbances: tuple[str, ...]
    machine: MachineView | None
    error: str | None

    @property
    def label(self) -> str:
        return f"{self.name} ({self.detail})"


def build(
    record: Record, phases: Sequence[PhaseComparison], on_record: GateRecords, names: StackNames = BY_MEMBERS
) -> CaseView:
    """`phases` is the judged speed of this record; () when it was not timed."""
    parity, case = record.parity, record.case
    ahead = record.provenance.aot_compiled if record.provenance else ()
    return CaseView(
        key=record.key,
        name=name(case),
        detail=detail(case, names),
        banner=verdicts.of_case(record, phases),
        facts=_facts(record),
        reproducer=_replay(record) if parity and parity.reproducer else None,
        mutants=mutants.view(record.kill_matrix) if record.kill_matrix else None,
        gate=tuple(gate_section.lines(record, on_record)),
        refusal=(parity.refusal() or None) if parity else None,
        levels=judged.levels(parity) if parity else (),
        not_judged=judged.not_judged_table(parity.not_judged) if parity and parity.not_judged else None,
        statistics=statistics_table.table(parity.statistics) if parity and parity.statistics else None,
        receipts=tuple(_receipt(note) for note in record.receipts),
        phases=tuple(speed.phase_view(record, phase, names) for phase in phases),
        timing_notes=record.timing_notes,
        kernels=speed.kernels_table(record) if record.kernels else None,
        compiled=compiled.table(ahead) if ahead else None,
        ceilings=speed.ceiling_text(record.ceilings),
        arms=machine.arms_table(record) if record.arms else None,
        telemetry=machine.telemetry_table(record) if record.blocks else None,
        disturbances=machine.disturbances(record.blocks),
        machine=machine_view("Environment", record.environment) if record.environment else None,
        error=_error(record.error) if record.error else None,
    )


def name(case: Case) -> str:
    return f"{case.model}/{case.size}"


def detail(case: Case, names: StackNames) -> str:
    return f"{names.of(case.model, case.stacked())} on {case.hardware}, {case.workload.name}"


def machine_view(title: str, environment: Environment) -> MachineView:
    return MachineView(title, machine.environment_facts(environment), machine.command(environment))


def _replay(record: Record) -> str:
    """As a command, from the folder that holds the records."""
    name = record.parity.reproducer if record.parity else None
    return shlex.join(("python", "-m", "harness", "replay", f"{record.case.hardware}/{name}"))


def _facts(record: Record) -> tuple[Fact, ...]:
    case, timing = record.case, record.case.timing
    limits = f"margin {formats.percent(timing.margin)}, {formats.number_of(timing.processes, 'process', 'processes')}"
    facts = [
        Fact("Case", record.key, code=True),
        Fact("Status", record.status.replace("_", " ")),
        Fact("Model", name(case)),
        Fact("Optimizations", case.stack()),
        *(Fact(f"optimization.{name}", str(value)) for name, value in case.parameters.items()),
        Fact("Hardware", case.hardware),
        Fact("Workload", case.workload.label()),
        Fact("Weights", case.weights or "random, from the seed"),
        *([Fact("Recipe", case.recipe)] if case.recipe == "random" else []),
        Fact("Seed", str(case.seed)),
        Fact("Arms asked for", ", ".join(case.arms) or "none"),
        Fact("Timing", f"{timing.name}: {limits}" if timing.processes else f"{timing.name}: not asked for"),
        Fact("Started", record.started_at),
        Fact("Took", formats.seconds(record.wall_s)),
    ]
    if record.provenance:
        facts += [
            Fact("Model config", record.provenance.hf_config, code=True),
            Fact("Kernel sources", record.provenance.kernel_sources, code=True),
        ]
    return tuple(facts)


def _receipt(note: ReceiptNote) -> Receipt:
    summary = f"{note.optimization}: {formats.number_of(len(note.touched), 'module')} replaced"
    return Receipt(note.optimization, summary, note.touched, note.notes)


def _error(failure: Failure) -> str:
    """The traceback where there is one; it ends with the message."""
    return failure.traceback.rstrip() or f"{failure.kind}: {failure.message}"
