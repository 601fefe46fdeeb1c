"""Evidence as a case that may ship would leave it, and the command that decides on it."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta

from harness.build import registry
from harness.commands.main import main
from harness.planning import compose
from harness.planning.hardware_target import Cluster
from harness.planning.plan import expand
from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.records.path_names import ExecutionPath
from harness.records.record import ArmReport, Block, Provenance, Record, Series
from harness.records.run_file import RunWriter, run_path

ASKED = ["+model=qwen3_4b_instruct_2507", "hardware=cpu"]
ARMS = {"reference": 3.0, "hf_max_autotune": 1.5, "candidate": 1.0, "again": 1.0}
"""Milliseconds."""
FAST = ARMS | {"candidate": 0.9, "again": 0.9}
PROCESSES, BLOCKS = 5, 30
PATHS = tuple(path for path in ExecutionPath if path.needs <= {"prefix_cache"} and not path.images)
"""What the stack that a CPU's `full` is has."""
NOW = datetime.now(UTC)
PROVENANCE = Provenance(hf_config="c", kernel_sources="s", fresh_caches=True, lock="l")


def planned(*more):
    jobs = compose.jobs([*ASKED, "timing=signoff", *more], multirun=False)
    specs = {job.model.name: registry.load(job.model.name) for job in jobs}
    return expand(jobs, specs, Cluster(2**34), registry.weights_bytes, registry.indivisible, sweep=False).cases[0]


def parity(
    levels=("reference", "op", "layer", "logits", "generation"), error=1.0, not_judged=(), paths=PATHS, standing=()
):
    judged = [*((level, "gemv") for level in levels), *(("path", path) for path in paths)]
    return Parity(
        not_judged=not_judged,
        standing=standing,
        checks=tuple(
            Check(level=level, subject=subject, name="out", rule="max", error=error, noise=1.0, limit=2.0)
            for level, subject in judged
        ),
    )


def matrix(subjects=("gemv", "model"), end="killed"):
    return KillMatrix(
        outcomes=tuple(
            MutantOutcome(
                subject=subject, name="halved", kind="scale", end=end, level="op" if end == "killed" else None
            )
            for subject in subjects
        )
    )


def series(arms, processes=PROCESSES, phases=("prefill", "decode")):
    """A little noise, paired alike in all arms, so that ratios are clear."""
    noise = random.Random(0)
    made = []
    for phase in phases:
        for process in range(processes):
            weather = [1 + 0.002 * noise.random() for _ in range(BLOCKS)]
            for arm, ms in arms.items():
                times = tuple(ms * w * (1 + 0.0005 * noise.random()) for w in weather)
                made.append(
                    Series(arm=arm, phase=phase, process=process, samples_ms=times, blocks=tuple(range(BLOCKS)))
                )
    return tuple(made)


def record(case, environment, hours_ago=1, **changes):
    peaks = changes.pop("peaks", dict.fromkeys(ARMS, 100))
    packages = changes.pop("packages", {"torch": "2.11.0", "triton": "3.6.0", "transformers": "5.17.0"})
    fields = {
        "status": "passed",
        "parity": parity(),
        "series": series(ARMS),
        "blocks": tuple(
            Block(process=process, index=index, phase=phase)
            for phase in ("prefill", "decode")
            for process in range(PROCESSES)
            for index in range(BLOCKS)
        ),
        "arms": tuple(ArmReport(name=n, label=n, process=0, peak_memory_bytes=b) for n, b in peaks.items()),
        "provenance": PROVENANCE,
        "environment": environment.model_copy(update={"packages": packages}),
    }
    return Record(
        run=f"run-{hours_ago}",
        plan=Plan(cases=(case,), skipped=()).hash,
        case=case,
        key=case.key,
        started_at=(NOW - timedelta(hours=hours_ago)).isoformat(timespec="seconds"),
        wall_s=1.0,
        **(fields | changes),
    )


def history(case, environment, count=10, arms=ARMS, since=20, **changes):
    return [record(case, environment, hours_ago=since + i, series=series(arms), **changes) for i in range(count)]


def faults(case, environment, hardware="cpu", **changes):
    said = {"kill_matrix": matrix(), "series": (), "blocks": ()} | changes
    untimed = case.timing.model_copy(update={"name": "off", "processes": 0})
    other = case.model_copy(update={"timing": untimed, "hardware": hardware})
    return record(other, environment, hours_ago=2, **said)


def stored(folder, records):
    for made in records:
        plan = Plan(cases=(made.case,), skipped=())
        with RunWriter(run_path(folder, "cpu", made.run), made.run, plan) as writer:
            writer.append(made)


def asked(tmp_path, *more):
    out = io.StringIO()
    err = io.StringIO()
    code = main(["signoff", *ASKED, f"out={tmp_path / 'records'}", f"reports={tmp_path / 'reports'}", *more], out, err)
    return code, out.getvalue() + err.getvalue()


def document(tmp_path):
    (folder,) = (tmp_path / "reports").iterdir()
    return folder
