"""Planning and merging at scale on one core, judged in its own seconds, which others lengthen less than the clock's.

In the ordinary suite the same code does the smaller size by the same limit; --benchmark-enable does both.
"""

import io
import os
import time

import pytest

from harness.commands import merge
from harness.commands.services import services
from harness.execution import session
from harness.planning import compose, sharding
from harness.records import run_line
from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.record import Record
from harness.records.run_file import RunWriter, run_path
from harness.tests import scale

SWEEP = ["+model=glob(*)", "optimization=none,rotary,attention,linear,full", "size=tiny", "hardware=cpu"]
PLAN_LIMIT_S = {1_000: 10.0, 10_000: 60.0}
MERGE_LIMIT_S = {1_000: 10.0, 10_000: 10.0}
SHARDS = 8
CHECKS = 226
"""The median of the records under benchmark_results/cpu."""
RIGHT = Parity(
    checks=tuple(
        Check(
            level="op",
            subject=f"layer {number}",
            name="attention output",
            rule="max",
            error=number / 7e5,
            noise=number / 8e5,
            limit=number / 3e5,
            where=f"[0, {number}, 17]",
        )
        for number in range(1, CHECKS + 1)
    )
)


def sizes(benchmark, limits):
    """Numbers of cases to be done, the smallest first."""
    return list(limits) if benchmark.enabled else list(limits)[:1]


def on_one_core(work, subject):
    """(what `work(subject)` returned, seconds of the core, seconds of the clock)."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    begin, core_begin = time.perf_counter(), time.process_time()
    try:
        made = work(subject)
    finally:
        os.sched_setaffinity(0, allowed)
    return made, time.process_time() - core_begin, time.perf_counter() - begin


def keep(what, benchmark, limits, measured):
    """Judges and keeps `measured`: number of cases -> what `on_one_core` returned."""
    core_s = {cases: spent for cases, (_, spent, _) in measured.items()}
    wall_s = {cases: spent for cases, (_, _, spent) in measured.items()}
    assert all(spent < limits[cases] for cases, spent in core_s.items()), core_s
    scale.keep(what, benchmark, cores=1, shards=SHARDS, core_s=core_s, wall_s=wall_s)


def test_bench_a_plan_and_its_shards(benchmark):
    def planned(cases):
        jobs = compose.jobs([*SWEEP, f"seed=range(0,{cases // 20})"], multirun=True)
        whole = session.planned(jobs, compose.known_hardware(), services(), sweep=True)
        return whole, session.groups(whole, SHARDS)

    def every():
        return {cases: on_one_core(planned, cases) for cases in sizes(benchmark, PLAN_LIMIT_S)}

    measured = benchmark.pedantic(every, rounds=1)
    for cases, ((whole, groups), *_) in measured.items():
        assert len(whole.plan.cases) + len(whole.plan.skipped) == cases
        assert sorted(key for group in groups for key in group.keys) == sorted(case.key for case in whole.plan.cases)
        assert sharding.imbalance(groups) <= 1.1
    keep("planning", benchmark, PLAN_LIMIT_S, measured)


@pytest.fixture
def shards(tmp_path, make_case, environment):
    """Run files of a plan of so many cases; the disk is given time for all of a file at once."""

    def shards(cases):
        folder = tmp_path / f"{cases}"
        plan = Plan(cases=tuple(make_case(seed=seed) for seed in range(cases)), skipped=())
        common = {"plan": plan.hash, "status": "passed", "started_at": "2025-01-01T00:00:00+00:00"}
        common |= {"wall_s": 1.0, "environment": environment, "parity": RIGHT}
        for number in range(SHARDS):
            name = f"r-{number}"
            with RunWriter(run_path(folder, "cpu", name), name, plan) as writer:
                made = (Record(run=name, case=case, key=case.key, **common) for case in plan.cases[number::SHARDS])
                writer.copy(run_line.written("record", record.model_dump(mode="json")) for record in made)
        return folder

    return shards


def test_bench_a_merge(benchmark, tmp_path, shards):
    folders = {cases: shards(cases) for cases in sizes(benchmark, MERGE_LIMIT_S)}

    def merged(folder):
        said = io.StringIO()
        return merge.main([str(folder), f"out={tmp_path / f'{folder.name}-merged'}"], said, said), said.getvalue()

    def every():
        return {cases: on_one_core(merged, folder) for cases, folder in folders.items()}

    measured = benchmark.pedantic(every, rounds=1)
    for cases, ((ended, said), *_) in measured.items():
        assert ended == 0, said
        assert f"{cases} planned = {cases} passed + 0 failed + 0 lost + 0 skipped" in said
    keep("merging", benchmark, MERGE_LIMIT_S, measured)
