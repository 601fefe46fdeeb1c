"""Which of the records that Slurm jobs left behind a killed parent stand in the run that goes on with it."""

from __future__ import annotations

import pytest

from harness.errors import UserError
from harness.execution import resume, slurm_queue
from harness.execution.record_factory import RecordFactory
from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.run_file import RunWriter, read_file

RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.5, noise=1.0, limit=1.0),))
RUN = "20260101-01234567-abcdef"


@pytest.fixture
def cases(make_case):
    return tuple(make_case(seed=seed) for seed in range(6))


@pytest.fixture
def killed(cases, environment, tmp_path):
    """A run whose parent was killed after one record, and what its jobs left."""
    plan = Plan(cases=cases, skipped=())
    stamp = RecordFactory(RUN, plan.hash, None, environment)
    node = environment.model_copy(update={"cpu": "a node's CPU"})
    edited = environment.model_copy(update={"diff_hash": "edited meanwhile"})
    writer = RunWriter(tmp_path / f"{RUN}.jsonl", RUN, plan)
    right = [stamp.record(case, 1.0, status="passed", parity=RIGHT, environment=node) for case in cases]
    writer.append(right[0])
    writer.interrupted = True
    writer.__exit__(None, None, None)
    jobs = tmp_path / f"{RUN}.jobs"
    jobs.mkdir()
    left = [
        right[0],
        right[1],
        right[2].model_copy(update={"environment": edited}),
        stamp.lost(cases[3], "its GPU was held"),
        right[4].model_copy(update={"run": "another"}),
    ]
    for record in left:
        (jobs / f"{record.key}.json").write_text(record.model_dump_json())
    (jobs / f"{cases[5].key}.json").write_text(right[5].model_dump_json()[:-40])
    return writer.partial


@pytest.fixture
def wanted(cases, environment):
    return resume.Wanted(Plan(cases=cases, skipped=()).hash, None, environment, on_nodes=True)


def test_what_nobody_wrote_down_and_can_be_trusted_is_adopted(killed, cases, wanted, monkeypatch):
    ended = []
    monkeypatch.setattr(slurm_queue, "end", ended.append)
    found = resume.find("auto", killed.parent, wanted)
    assert [record.key for record in resume.adopt(found, wanted)] == [cases[1].key]
    assert ended == [f"inference-pio-{RUN}"]


def test_a_run_on_this_machine_does_not_go_on_with_records_of_another(killed, wanted, environment):
    here = resume.Wanted(wanted.plan_hash, None, environment)
    assert resume.find("auto", killed.parent, here) is None


def test_jobs_that_cannot_be_ended_keep_their_cases_from_running_twice(killed, wanted, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="may be running still"):
        resume.adopt(read_file(killed), wanted)
