"""Planning and merging at scale, on one core. In the ordinary suite a tenth of it, with the same limits."""

import io
import os

import pytest

from harness import compose, merge, session, split
from harness.__main__ import world
from harness.case import Plan
from harness.checks import Check, Parity
from harness.record import Record
from harness.run_file import RunWriter, run_path

SWEEP = ["+model=glob(*)", "optimization=none,rotary,attention,linear,full", "size=tiny", "hardware=cpu"]
PLAN_LIMIT_S = {1_000: 10.0, 10_000: 60.0}
MERGE_LIMIT_S = {1_000: 10.0, 10_000: 10.0}
SHARDS = 8
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.5, noise=1.0, limit=1.0),) * 4)


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

    whole, groups = benchmark.pedantic(planned, rounds=1)
    assert len(whole.plan.cases) + len(whole.plan.skipped) == cases
    assert sorted(key for group in groups for key in group.keys) == sorted(case.key for case in whole.plan.cases)
    assert split.imbalance(groups) <= 1.1
    if not benchmark.disabled:
        assert benchmark.stats["mean"] < PLAN_LIMIT_S[cases]


@pytest.mark.parametrize("cases", MERGE_LIMIT_S)
def test_bench_a_merge(benchmark, cases, tmp_path, make_case, environment, monkeypatch):
    at_scale(benchmark, cases)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    plan = Plan(cases=tuple(make_case(seed=seed) for seed in range(cases)), skipped=())
    common = {"plan": plan.hash, "status": "passed", "started_at": "2025-01-01T00:00:00+00:00"}
    common |= {"wall_s": 1.0, "environment": environment, "parity": RIGHT}
    for number in range(SHARDS):
        with RunWriter(run_path(tmp_path / "runs", "cpu", f"r-{number}"), f"r-{number}", plan) as writer:
            for case in plan.cases[number::SHARDS]:
                writer.append(Record(run=f"r-{number}", case=case, key=case.key, **common))
    said = io.StringIO()

    def merged():
        return merge.main([str(tmp_path / "runs"), "--out", str(tmp_path / "merged")], said, said)

    assert benchmark.pedantic(merged, rounds=1) == 0
    assert f"{cases} planned = {cases} passed + 0 failed + 0 lost + 0 skipped" in said.getvalue()
    if not benchmark.disabled:
        assert benchmark.stats["mean"] < MERGE_LIMIT_S[cases]
