"""The plans of test_shards/plans.yaml with the models there are: what is planned, dealt and merged; nothing is run."""

from __future__ import annotations

import pytest

from harness.build import registry
from harness.commands import merge
from harness.commands.services import services
from harness.execution import session
from harness.execution.record_factory import RecordFactory
from harness.planning import compose, cost, shard_plans, sharding
from harness.records.checks import Check, Parity
from harness.records.run_file import RunWriter, read_file, run_path

PLANS = shard_plans.read(shard_plans.PLANS)


@pytest.fixture(scope="module", params=PLANS)
def real(request):
    """The plan of all models on a kind of machine, and how many shards it is meant for."""
    asked = PLANS[request.param]
    jobs = compose.jobs(asked.sweep, multirun=True)
    return session.planned(jobs, compose.known_hardware(), services(), sweep=True), asked.shards


def test_shards_are_even_and_every_model_is_in_the_plan(real):
    whole, shards = real
    assert {case.model for case in whole.plan.cases} == set(registry.names())
    assert sharding.imbalance(session.groups(whole, shards)) <= 1.10


def test_the_sweep_that_was_recorded_is_dealt_by_what_each_of_its_cases_took():
    asked = PLANS["cpu_proofs"]
    whole = session.planned(compose.jobs(asked.sweep, multirun=True), compose.known_hardware(), services(), sweep=True)
    durations = cost.read_durations(session.DURATIONS)
    recorded = {case.key: durations.get(cost.name(case)) for case in whole.plan.cases}
    assert len(recorded) == 36
    assert whole.costs_s == recorded
    assert sharding.imbalance(session.groups(whole, asked.shards)) <= 1.10


def ended(stamp, case):
    """A made-up end that follows from the case alone: every eighth has a wrong answer."""
    error = 2.0 if int(case.key, 16) % 8 == 0 else 0.5
    check = Check(level="op", subject="k", name="o", rule="max", error=error, noise=1.0, limit=1.0)
    status = "passed" if check.passed else "failed"
    return stamp.record(case, 1.0, "2025-01-01T00:00:00+00:00", status=status, parity=Parity(checks=(check,)))


@pytest.fixture
def dealt(real, environment, tmp_path):
    """The run files of a plan in so many shards."""
    plan = real[0].plan

    def dealt(count):
        cases = {case.key: case for case in plan.cases}
        paths = []
        for number, group in enumerate(session.groups(real[0], count), start=1):
            stamp = RecordFactory(f"of-{count}-{number}", plan.hash, f"{number}/{count}", environment)
            paths.append(run_path(tmp_path, "any", stamp.run))
            with RunWriter(paths[-1], stamp.run, plan, stamp.shard) as writer:
                for skip in plan.skipped if number == 1 else ():
                    writer.append(stamp.skipped(skip))
                for key in group.keys:
                    writer.append(ended(stamp, cases[key]))
        return [read_file(path) for path in paths]

    return dealt


def verdicts(records):
    return {record.key: (record.status, record.parity) for record in records}


@pytest.mark.parametrize("count", [2, 4, 8])
def test_merged_shards_are_the_run_in_one(real, dealt, count):
    (alone,) = dealt(1)
    plan = real[0].plan
    shards = dealt(count)
    merged = merge.merge(shards)
    assert verdicts(merged.records) == verdicts(alone.records)
    assert len(merged.records) == len(plan.cases) + len(plan.skipped)
    assert {record.status for record in merge.merge(shards[1:]).records} >= {"lost"}
