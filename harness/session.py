"""One run from settings to exit code: plan, cases, records, comparison, report. What touches the world is handed in."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from harness import cost, store
from harness.case import Plan
from harness.errors import UnknownName, UserError
from harness.outcome import Outcome
from harness.place import MachineFacts, Place, Site
from harness.plan import Offer, WeightsBytes, expand
from harness.record import Environment, Record
from harness.settings import Hardware, Settings

if TYPE_CHECKING:
    from harness.compare import PhaseComparison

ROOT = Path(__file__).resolve().parents[1]
DURATIONS = ROOT / "test_shards" / "durations.json"
SHARED = ("engine", "plan", "out", "reports", "report")


@dataclass(frozen=True)
class World:
    """Everything outside of the pure core."""

    probe: Callable[[], MachineFacts]
    load: Callable[[str], Offer]
    weights_bytes: WeightsBytes
    check_weights: Callable[[str, Path], None]
    capture: Callable[[], Environment]
    judge: Callable[[Record], Sequence[PhaseComparison]]
    report: Callable[[Sequence[Record], Plan, str, Path, Sequence[str]], Sequence[Path]]
    worker_module: str


def conduct(
    jobs: Sequence[Settings], known: Mapping[str, Hardware], world: World, out: TextIO, err: TextIO, sweep: bool
) -> int:
    """Run the jobs of one command. 0: right and not slower. 1: refused. A user's mistake is a UserError."""
    from harness import console

    asked = _agreed(jobs)
    specs = {name: world.load(name) for name in dict.fromkeys(job.model.name for job in jobs)}
    for model, weights in dict.fromkeys((job.model.name, job.weights) for job in jobs):
        if weights is not None:
            world.check_weights(model, Path(weights))
    site = Site(world.probe(), known, cxx=shutil.which("g++") is not None)
    plan = expand(jobs, specs, site, world.weights_bytes, sweep)
    durations = cost.read_durations(DURATIONS)
    costs_s = {case.key: cost.estimate_s(case, durations) for case in plan.cases}
    console.print_plan(plan, costs_s, out if asked.plan == "only" else err)
    if asked.plan == "only":
        return 0
    places = {place.name: place for place in (site.place(job.hardware) for job in jobs)}
    run, run_file, records = _run(plan, asked, places, world, err)
    outcome = Outcome(records, {record.key: world.judge(record) for record in records if record.series})
    reports = world.report(records, plan, run, Path(asked.reports), asked.report) if asked.report else ()
    console.print_outcome(outcome, run_file, reports, out)
    return outcome.exit_code


def _run(
    plan: Plan, asked: Settings, places: Mapping[str, Place], world: World, err: TextIO
) -> tuple[str, Path, tuple[Record, ...]]:
    """The run's name, its file, and its records in the order they came."""
    from harness import console
    from harness.engines.local import LocalEngine

    environment = world.capture()
    run = f"{datetime.now(UTC):%Y%m%d}-{environment.commit[:8]}-{secrets.token_hex(3)}"
    hardware = "-".join(sorted({case.hardware for case in plan.cases}))
    path = store.run_path(Path(asked.out), hardware, run)
    records = []
    with store.RunWriter(path, run, plan) as writer, console.progress(err, len(plan.cases)) as shown:
        for record in LocalEngine(run, environment, places, shown, world.worker_module).records(plan):
            writer.append(record)
            records.append(record)
    return run, path, tuple(records)


def _agreed(jobs: Sequence[Settings]) -> Settings:
    """What all jobs of a sweep share; a setting of the whole run that differs between them is refused."""
    first = jobs[0]
    for field in SHARED:
        if any(getattr(job, field) != getattr(first, field) for job in jobs):
            raise UserError(f"'{field}' is swept, but a run has one: only the first would be obeyed")
    if first.engine.name != "local":
        raise UnknownName("engine", first.engine.name, ["local"])
    return first
