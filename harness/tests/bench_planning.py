"""Planning and merging at scale on one core, judged in seconds of that core, which others do not lengthen.
The ordinary suite does a tenth by the same limits, --benchmark-enable all of it, and shows the clock's seconds too."""

import io
import os
import time
from contextlib import contextmanager

import pytest

from harness import compose, merge, run_line, session, split
from harness.__main__ import world
from harness.case import Plan
from harness.checks import Check, Parity
from harness.record import Record
from harness.run_file import RunWriter, run_path

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


@contextmanager
def one_core(benchmark, limit_s):
    """Whatever is done inside is done on one core, and within the limit."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    begun = time.process_time()
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
    spent_s = time.process_time() - begun
    benchmark.extra_info["core_s"] = round(spent_s, 2)
    assert spent_s < limit_s


def at_scale(benchmark, cases):
    if cases > 1_000 and benchmark.disabled:
        pytest.skip("10,000 cases are for --benchmark-enable")


@pytest.mark.parametrize("cases", PLAN_LIMIT_S)
def test_bench_a_plan_and_its_shards(benchmark, cases):
    at_scale(benchmark, cases)

    def planned():
        jobs = compose.jobs([*SWEEP, f"seed=range(0,{cases // 20})"], multirun=True)
        whole = session.planned(jobs, compose.known_hardware(), world(), sweep=True)
        return whole, session.groups(whole, SHARDS)

    with one_core(benchmark, PLAN_LIMIT_S[cases]):
        whole, groups = benchmark.pedantic(planned, rounds=1)
    assert len(whole.plan.cases) + len(whole.plan.skipped) == cases
    assert sorted(key for group in groups for key in group.keys) == sorted(case.key for case in whole.plan.cases)
    assert split.imbalance(groups) <= 1.1


@pytest.fixture
def shards(tmp_path, make_case, environment):
    """Run files of a plan of so many cases; the disk is given time for all of a file at once."""

    def shards(cases):
        plan = Plan(cases=tuple(make_case(seed=seed) for seed in range(cases)), skipped=())
        common = {"plan": plan.hash, "status": "passed", "started_at": "2025-01-01T00:00:00+00:00"}
        common |= {"wall_s": 1.0, "environment": environment, "parity": RIGHT}
        for number in range(SHARDS):
            name = f"r-{number}"
            with RunWriter(run_path(tmp_path / "runs", "cpu", name), name, plan) as writer:
                made = (Record(run=name, case=case, key=case.key, **common) for case in plan.cases[number::SHARDS])
                writer.copy(run_line.written("record", record.model_dump(mode="json")) for record in made)
        return tmp_path / "runs"

    return shards


@pytest.mark.parametrize("cases", MERGE_LIMIT_S)
def test_bench_a_merge(benchmark, cases, tmp_path, shards):
    at_scale(benchmark, cases)
    runs, said = shards(cases), io.StringIO()

    def merged():
        return merge.main([str(runs), "--out", str(tmp_path / "merged")], said, said)

    with one_core(benchmark, MERGE_LIMIT_S[cases]):
        assert benchmark.pedantic(merged, rounds=1) == 0
    assert f"{cases} planned = {cases} passed + 0 failed + 0 lost + 0 skipped" in said.getvalue()
