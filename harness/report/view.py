"""Records and their plan as a view model: everything that a document says, as text, tables and chart marks. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import RecordError
from harness.records.case import Case, Plan
from harness.records.gate_evidence import GateRecords
from harness.records.record import FAILURES, Record
from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.report import ablation_view, case_view, formats, judged, verdicts
from harness.report.ablation_view import AblationView
from harness.report.case_view import CaseView, MachineView
from harness.report.cells import Banner, Cell, Table, columns, row
from harness.report.speed import IntervalMark

if TYPE_CHECKING:
    from harness.analysis.compare.arms import PhaseComparison

Compare = Callable[[Record], "tuple[PhaseComparison, ...]"]
Outcome = tuple[Case, Banner]

ENDS = {
    "failed": "broke parity",
    "crashed": "crashed",
    "out_of_memory": "ran out of memory",
    "killed": "was killed",
    "timed_out": "ran out of time",
}
NOTHING = GateRecords()
NO_RECORD = "the run ended without a record of this case"


@dataclass(frozen=True)
class Coverage:
    """Every planned case has one end, so planned = passed + failed + lost + skipped."""

    passed: int
    failed: int
    lost: int
    skipped: int
    failures: tuple[tuple[str, int], ...]
    """How the failed ones ended, by status."""

    @property
    def planned(self) -> int:
        return self.passed + self.failed + self.lost + self.skipped

    def ends(self) -> str:
        return ", ".join(f"{count} {ENDS[status]}" for status, count in self.failures)


@dataclass(frozen=True)
class RunView:
    """The index of a run. `cases` are those with a record, in the plan's order."""

    run: str
    subtitle: str
    banner: Banner
    coverage: Coverage
    skips: Table | None
    notes: tuple[str, ...]
    matrix: Table
    cases: tuple[CaseView, ...]
    machines: tuple[MachineView, ...]
    ablations: tuple[AblationView, ...]
    """Sweeps over stacks, each phase taken apart by optimization."""
    stacks: Table | None
    """What the short names of stacks stand for."""

    @property
    def gate(self) -> tuple[str, ...]:
        """What is on record of the gate, each line once."""
        return tuple(dict.fromkeys(line for case in self.cases for line in case.gate))

    @property
    def compiled(self) -> tuple[tuple[Table, int], ...]:
        """Each table of what was compiled ahead, and for how many cases it was the same."""
        return tuple(Counter(case.compiled for case in self.cases if case.compiled).items())

    @property
    def timed(self) -> tuple[CaseView, ...]:
        return tuple(case for case in self.cases if case.phases)

    @property
    def headline_marks(self) -> tuple[IntervalMark, ...]:
        """Each timed phase against its strongest baseline."""
        marks = (phase.headline_mark for case in self.cases for phase in case.phases)
        return tuple(mark for mark in marks if mark is not None)


def build(
    records: Sequence[Record],
    plan: Plan,
    run: str,
    compare: Compare | None = None,
    on_record: GateRecords = NOTHING,
    names: StackNames = BY_MEMBERS,
) -> RunView:
    """The view of one run. `compare` judges the speed of a record; by default `harness.analysis.compare.arms.arms`.
    `on_record` is what is known of the gate beside this run, `names` are what stacks are called.

    Raises RecordError where the records are not those of the plan: coverage could not add up.
    """
    by_key = _by_key(records, plan)
    judge = compare or _default_compare()
    ran = {key: record for key, record in by_key.items() if record.status != "skipped"}
    phases = {key: judge(record) for key, record in ran.items()}
    cases = tuple(case_view.build(record, phases[key], on_record, names) for key, record in ran.items())
    skips = {skip.case.key: (skip.case, skip.reason) for skip in plan.skipped}
    skips |= {key: (record.case, record.reason or "") for key, record in by_key.items() if key not in ran}
    asked = [case for case in plan.cases if case.key not in skips]
    banners = {view.key: view.banner for view in cases}
    outcomes = [(case, banners.get(case.key) or verdicts.lost(NO_RECORD)) for case in asked]
    coverage = _coverage([ran[case.key].status if case.key in ran else "lost" for case in asked], len(skips))
    labeled = [(f"{case_view.name(case)} ({case_view.detail(case, names)})", banner) for case, banner in outcomes]
    return RunView(
        run=run,
        subtitle=_subtitle(records),
        banner=verdicts.of_run(labeled, _remarks(coverage, list(ran.values())), _best(phases)),
        coverage=coverage,
        skips=_skips_table(list(skips.values()), names) if skips else None,
        notes=plan.notes,
        matrix=_matrix(outcomes, ran, names),
        cases=cases,
        machines=_machines(list(ran.values())),
        ablations=_ablations(list(ran.values()), phases, names),
        stacks=_stacks(plan.every(), names),
    )


def _default_compare() -> Compare:
    from harness.analysis.compare.arms import arms

    return arms


def _stacks(cases: Sequence[Case], names: StackNames) -> Table | None:
    found = names.legend(case.label() for case in cases)
    rows = tuple(row(named.name, named.model, named.members) for named in found)
    return Table("Stacks by their short names", columns("Stack", "Model", "Optimizations"), rows) if rows else None


def _ablations(
    ran: Sequence[Record], phases: Mapping[str, Sequence[PhaseComparison]], names: StackNames
) -> tuple[AblationView, ...]:
    from harness.analysis.compare.ablation import ablations

    return tuple(ablation_view.view(found, names) for found in ablations(ran, phases))


def _by_key(records: Sequence[Record], plan: Plan) -> dict[str, Record]:
    """Records by case key, in the plan's order."""
    planned = [case.key for case in (*plan.cases, *(skip.case for skip in plan.skipped))]
    unplanned = sorted({record.key for record in records} - set(planned))
    if unplanned:
        raise RecordError(f"a record of case {unplanned[0]}, which the plan does not hold: coverage could not add up")
    found = {record.key: record for record in records}
    if len(found) < len(records):
        key = Counter(record.key for record in records).most_common(1)[0][0]
        raise RecordError(f"case {key} has several records: which of its ends is true cannot be told")
    return {key: found[key] for key in planned if key in found}


def _coverage(statuses: Sequence[str], skipped: int) -> Coverage:
    counts = Counter(statuses)
    failures = tuple((status, counts[status]) for status in sorted(FAILURES) if counts[status])
    failed = sum(count for _, count in failures)
    return Coverage(counts["passed"], failed, counts["lost"], skipped, failures)


def _subtitle(records: Sequence[Record]) -> str:
    if not records:
        return "no record was written"
    first = min(record.started_at for record in records)
    hardware = ", ".join(dict.fromkeys(record.case.hardware for record in records))
    commits = ", ".join(dict.fromkeys(record.environment.commit[:8] for record in records if record.environment))
    took = formats.seconds(sum(record.wall_s for record in records))
    return f"{hardware}, started {first}, {took} of work{f', commit {commits}' if commits else ''}"


def _remarks(coverage: Coverage, ran: Sequence[Record]) -> list[str]:
    """What qualifies the whole; a single case qualifies itself."""
    remarks = [f"Skipped: {coverage.skipped} of {coverage.planned} planned cases."] if coverage.skipped else []
    if len(ran) > 1:
        absent = sum(len(record.parity.not_judged) for record in ran if record.parity)
        provisional = sum(record.provisional for record in ran)
        remarks += [f"{formats.number_of(absent, 'check')} could not be judged here."] if absent else []
        remarks += [f"{provisional} of {len(ran)} records are provisional: their source was not a clean commit."] * (
            provisional > 0
        )
    return remarks


def _best(phases: Mapping[str, Sequence[PhaseComparison]]) -> str:
    """The speed-ups over the strongest baseline, of every phase that was compared with one."""
    found = [arm.estimate.speedup for every in phases.values() for phase in every if (arm := verdicts.strongest(phase))]
    ratios = sorted(ratio for ratio in found if math.isfinite(ratio))
    if not ratios:
        return "no speed was compared"
    timed = sum(bool(every) for every in phases.values())
    reach = dict.fromkeys((formats.ratio(ratios[0]), formats.ratio(ratios[-1])))
    return f"{timed} of them timed: {' to '.join(reach)} the speed of the strongest baseline"


def _skips_table(skips: Sequence[tuple[Case, str]], names: StackNames) -> Table:
    rows = tuple(row(_head(case, None, names), reason) for case, reason in skips)
    return Table("Skipped cases", columns("Case", "Why it did not run"), rows)


def _head(case: Case, page: str | None, names: StackNames) -> Cell:
    short = names.of(case.model, case.stacked()) != case.stack()
    return Cell(case_view.name(case), case_view.detail(case, names), case=page, title=case.stack() if short else "")


def _matrix(outcomes: Sequence[Outcome], ran: Mapping[str, Record], names: StackNames) -> Table:
    heads = columns("Case", "Outcome", *(level.capitalize() for level in judged.LEVELS))
    rows = tuple(_matrix_row(case, banner, ran.get(case.key), names) for case, banner in outcomes)
    return Table("Every case that was to run, by level of parity", heads, rows)


def _matrix_row(case: Case, banner: Banner, record: Record | None, names: StackNames) -> tuple[Cell, ...]:
    head = _head(case, case.key if record else None, names)
    outcome = Cell(banner.word, banner.sentence if banner.word == "REFUSED" else "", banner.tone)
    return head, outcome, *judged.matrix_cells(record.parity if record else None)


def _machines(ran: Sequence[Record]) -> tuple[MachineView, ...]:
    """Each distinct environment once, with how many cases ran in it."""
    environments = {record.environment.digest(): record.environment for record in ran if record.environment}
    counts = Counter(record.environment.digest() for record in ran if record.environment)
    return tuple(
        case_view.machine_view(f"Environment of {formats.number_of(counts[digest], 'case')}", environment)
        for digest, environment in environments.items()
    )
