"""One run from settings to exit code: plan, cases, records, comparison, report. What touches the world is handed in."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from harness.analysis.outcome import Outcome
from harness.errors import HarnessError, UserError
from harness.execution import proofs, resume
from harness.execution.progress import Progress
from harness.execution.record_factory import RecordFactory
from harness.machine.installation import WORK, verdict_folder
from harness.planning import cost, machine_times
from harness.planning.hardware_target import Cluster, HardwareTarget, LocalMachine, MachineFacts, Machines, OnPaper
from harness.planning.plan import Indivisible, Offer, WeightsBytes, expand, needed_bytes, proof_bytes
from harness.planning.settings import Hardware, Settings
from harness.planning.sharding import Group, Item, Machine, Shard, split
from harness.records.case import Case, Plan, Skip
from harness.records.record import Environment, Record
from harness.records.redaction import withheld
from harness.records.run_file import RunWriter, run_path
from harness.records.stack_name import StackNames

if TYPE_CHECKING:
    from harness.analysis.compare.arms import PhaseComparison

DURATIONS = WORK / "test_shards" / "durations.json"
SHARED = ("engine", "plan", "shard", "resume", "proof", "verdicts", "out", "reports", "report")


@dataclass(frozen=True)
class Services:
    """Everything outside of the pure core."""

    probe: Callable[[], MachineFacts]
    load: Callable[[str], Offer]
    weights_bytes: WeightsBytes
    indivisible: Indivisible
    check_weights: Callable[[str, Path], None]
    capture: Callable[[], Environment]
    judge: Callable[[Record], Sequence[PhaseComparison]]
    report: Callable[[Sequence[Record], Plan, str, Path, Sequence[str], Path], Sequence[Path]]
    """Records, plan, run, where to, formats, and the folder of records."""
    worker_module: str
    mutants: bool = False
    """Whether faults are planted to judge the gate of every case that passes."""


@dataclass(frozen=True)
class Planned:
    """The whole plan, its costs in seconds and memory by case key, and where its cases run by hardware name. The
    seconds are alike on every machine, because the shards of a plan are balanced by them."""

    plan: Plan
    costs_s: Mapping[str, float]
    needs_bytes: Mapping[str, int]
    """What a device must hold, by case key."""
    places: Mapping[str, HardwareTarget]
    names: StackNames
    likes: Mapping[Case, str]
    """Case -> the size that it costs as much as."""


def planned(jobs: Sequence[Settings], known: Mapping[str, Hardware], world: Services, sweep: bool) -> Planned:
    asked = _agreed(jobs)
    specs = {name: world.load(name) for name in dict.fromkeys(job.model.name for job in jobs)}
    for model, weights in dict.fromkeys((job.model.name, job.weights) for job in jobs):
        if weights is not None:
            world.check_weights(model, Path(weights))
    machine = world.probe()
    here = LocalMachine(machine, known, cxx=shutil.which("g++") is not None, nvcc=shutil.which("nvcc") is not None)
    sites: Machines = Cluster(machine.memory_bytes) if asked.engine.name == "slurm" else here
    if asked.plan == "only" and all(sites.place(job.hardware).absent for job in jobs):
        sites = OnPaper(here)
    plan = expand(jobs, specs, sites, world.weights_bytes, world.indivisible, sweep)
    durations = cost.read_durations(DURATIONS)
    weighed = cache(world.weights_bytes)
    likes = {case: cost.like(case, specs[case.model].sizes, weighed) for case in plan.cases}
    costs_s = {case.key: cost.estimate_s(case, durations, like) for case, like in likes.items()}
    needs_bytes = {case.key: needed_bytes(case, weighed) for case in plan.cases}
    places = {place.name: place for place in map(sites.place, {job.hardware for job in jobs})}
    names = StackNames.of_menus({name: spec.menu for name, spec in specs.items()})
    return Planned(plan, costs_s, needs_bytes, places, names, likes)


def groups(whole: Planned, count: int) -> tuple[Group, ...]:
    """The plan as `count` balanced parts for machines like the one that it was made for."""
    items = [
        Item(case.key, whole.costs_s[case.key], whole.places[case.hardware].gpu_count, whole.needs_bytes[case.key])
        for case in whole.plan.cases
    ]
    gpus = max((len(place.gpu_uuids) or place.gpu_count for place in whole.places.values()), default=0)
    known = [place.memory_bytes for place in whole.places.values()]
    memory = None if None in known else max(filter(None, known), default=None)
    return split(items, [Machine(gpus, memory)] * count, whole.plan.hash)


def conduct(
    jobs: Sequence[Settings], known: Mapping[str, Hardware], world: Services, out: TextIO, err: TextIO, sweep: bool
) -> int:
    """Run the jobs of one command. 0: right and not slower. 1: refused. A user's mistake is a UserError."""
    from harness.report import console
    from harness.report.fault_tables import print_matrices

    asked = jobs[0]
    if (world.mutants or asked.proof) and asked.engine.name == "slurm":
        what = "faults are planted" if world.mutants else "a proof stands"
        raise UserError(f"{what} on this machine: leave engine=slurm out")
    whole = planned(jobs, known, world, sweep)
    cases, skips = _part(whole, asked.shard)
    shown = out if asked.plan == "only" else err
    expected_s = _expected(whole, Path(asked.out), world, shown)
    console.print_plan(whole.plan, expected_s, shown, whole.names)
    if asked.shard:
        console.print_shard(asked.shard, cases, expected_s, shown, whole.names)
    if asked.plan == "only":
        for reason in filter(None, (place.elsewhere for place in whole.places.values())):
            print(f"this machine would not run it: {reason}", file=out)
        return 0
    run, run_file, records = _run(whole, cases, skips, asked, world, err)
    outcome = Outcome(records, {record.key: world.judge(record) for record in records if record.series})
    reports: Sequence[Path] = ()
    if asked.report:
        reports = world.report(records, whole.plan, run, Path(asked.reports), asked.report, Path(asked.out))
    print_matrices(records, out)
    console.print_outcome(outcome, run_file, reports, out, whole.names)
    return outcome.exit_code if cases else 0


def _expected(whole: Planned, out: Path, world: Services, stream: TextIO) -> dict[str, float]:
    """Seconds by case key, by what this machine has on record under `out`; without it where that cannot be read."""
    try:
        times = machine_times.read(out, whole.likes, cost.read_durations(DURATIONS), world.probe())
    except HarnessError as error:
        print(f"note: the estimates are not of this machine: {error}", file=stream)
        return dict(whole.costs_s)
    return {case.key: times.estimate_s(case, whole.costs_s[case.key]) for case in whole.plan.cases}


def _part(whole: Planned, shard: str | None) -> tuple[tuple[Case, ...], tuple[Skip, ...]]:
    """The cases and skips of this run, in the plan's order; the first shard states the skips."""
    if shard is None:
        return whole.plan.cases, whole.plan.skipped
    chosen = Shard.parse(shard)
    keys = set(groups(whole, chosen.count)[chosen.index - 1].keys)
    cases = tuple(case for case in whole.plan.cases if case.key in keys)
    return cases, whole.plan.skipped if chosen.index == 1 else ()


def _run(
    whole: Planned, cases: Sequence[Case], skips: Sequence[Skip], asked: Settings, world: Services, err: TextIO
) -> tuple[str, Path, tuple[Record, ...]]:
    """The run's name, its file, and its records: those it goes on with, then those that it made, as they came."""
    from harness.report import console

    environment = world.capture()
    run = f"{datetime.now(UTC):%Y%m%d}-{environment.commit[:8]}-{secrets.token_hex(3)}"
    stamp = RecordFactory(run, whole.plan.hash, asked.shard, environment)
    path = run_path(Path(asked.out), "-".join(sorted({case.hardware for case in whole.plan.cases})), run)
    resumed = "off" if world.mutants else asked.resume
    wanted = resume.Wanted(stamp.plan, asked.shard, environment, on_nodes=asked.engine.name == "slurm")
    earlier = resume.find(resumed, path.parent, wanted)
    adopted = [withheld(record, os.environ) for record in resume.adopt(earlier, wanted)] if earlier else []
    records = [*resume.standing(earlier), *adopted] if earlier else []
    held = {record.key for record in records}
    todo = [case for case in cases if case.key not in held]
    sources = tuple(dict.fromkeys((earlier.run, *earlier.sources))) if earlier else ()
    if earlier:
        left = f" ({len(adopted)} left by its jobs)" if adopted else ""
        print(f"going on with {earlier.path.name}: {len(records)} recorded{left}, {len(todo)} to run", file=err)
    with (
        RunWriter(path, run, whole.plan, asked.shard, sources) as writer,
        console.progress(err, len(todo), whole.names) as shown,
    ):
        for record in records:
            writer.append(record)
        engine = _engine(asked, stamp, whole, shown, world, path, records)
        fresh = chain((stamp.skipped(skip) for skip in skips if skip.case.key not in held), engine.records(todo))
        for told in fresh:
            record = withheld(told, os.environ)
            writer.append(record)
            records.append(record)
        writer.interrupted = engine.interrupted
    if writer.interrupted:
        print("interrupted: the same command goes on where this stopped", file=err)
        return run, writer.partial, tuple(records)
    if earlier:
        resume.supersede(earlier)
    return run, path, tuple(records)


class Engine(Protocol):
    """Runs cases and gives a record for each, as they end; `interrupted` says that some were not tried."""

    @property
    def interrupted(self) -> bool: ...
    def records(self, cases: Sequence[Case]) -> Iterator[Record]: ...


def _engine(
    asked: Settings,
    stamp: RecordFactory,
    whole: Planned,
    progress: Progress,
    world: Services,
    path: Path,
    earlier: Sequence[Record],
) -> Engine:
    from harness.execution.local import LocalEngine

    chosen = asked.engine
    weighed = cache(world.weights_bytes)
    weights = {case.key: proof_bytes(case, weighed) for case in whole.plan.cases}
    if chosen.name == "slurm":
        from harness.execution.slurm import SlurmEngine

        folder = path.with_suffix(resume.JOBS)
        return SlurmEngine(stamp, whole.places, progress, chosen, folder, world.worker_module, weights)
    gpus = max((len(place.gpu_uuids) for place in whole.places.values()), default=0)
    workers = max(1, gpus) if chosen.workers == "auto" else chosen.workers
    held = proofs.read(Path(asked.proof), stamp.environment) if asked.proof else proofs.Proofs()
    for record in earlier:
        held.add(record)
    folder, module = path.parent, world.worker_module
    verdicts = verdict_folder() if asked.verdicts == "reuse" else None
    return LocalEngine(
        stamp, whole.places, progress, folder, module, workers, world.mutants, held, weights, verdicts=verdicts
    )


def _agreed(jobs: Sequence[Settings]) -> Settings:
    """What all jobs of a sweep share; a setting of the whole run that differs between them is refused."""
    first = jobs[0]
    for field in SHARED:
        if any(getattr(job, field) != getattr(first, field) for job in jobs):
            raise UserError(f"'{field}' is swept, but a run has one: only the first would be obeyed")
    return first
