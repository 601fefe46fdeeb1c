"""What may stand together: runs are gone on with and shards merged where plan, shard and code are the same."""

from __future__ import annotations

from typing import Any

import pytest

from harness.commands import merge
from harness.errors import RecordError, UserError
from harness.execution import resume
from harness.execution.resume import Wanted
from harness.records.case import Plan
from harness.records.record import Environment, Failure, Record
from harness.records.run_file import RunWriter, read_file, run_path

RUN = "20250101-01234567-abc"


@pytest.fixture
def plan(make_case) -> Plan:
    return Plan(cases=(make_case(), make_case(seed=1)), skipped=())


@pytest.fixture
def left(tmp_path, plan, environment):
    """A run file that holds one record of the plan's case number `place`."""

    def made(run: str = RUN, place: int = 0, shard: str | None = "1/2", finished: bool = True, **changed: Any):
        case = plan.cases[place]
        record = Record(
            run=run,
            plan=plan.hash,
            shard=shard,
            case=case,
            key=case.key,
            status="crashed",
            error=Failure(kind="E", message="m"),
            started_at="2025-01-01T00:00:00+00:00",
            wall_s=1.0,
            environment=environment.model_copy(update=changed),
        )
        with RunWriter(run_path(tmp_path, "cpu", run), run, plan, shard=shard) as writer:
            writer.append(record)
            writer.interrupted = not finished
        return writer.path if finished else writer.partial

    return made


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({}, None),
        ({"plan_hash": "p"}, "and this is plan p"),
        ({"shard": "2/2"}, "it ran shard 1/2, and this is shard 2/2"),
        ({"shard": None}, "it ran shard 1/2, and this is shard none"),
        ({"commit": "f" * 16}, "of commit 01234567 or another machine"),
        ({"dirty": True, "diff_hash": "d"}, "of commit 01234567 or another machine"),
        ({"cpu": "another"}, "of commit 01234567 or another machine"),
        ({"cpu": "another", "on_nodes": True}, None),
        ({"diff_hash": "d", "on_nodes": True}, "of commit 01234567 or another machine"),
    ],
)
def test_a_run_is_gone_on_with_only_as_what_it_was(left, tmp_path, plan, environment: Environment, wanted, says):
    path = left(finished=False)
    asked = {"plan_hash": plan.hash, "shard": "1/2", "on_nodes": False}
    machine = environment.model_copy(update={name: value for name, value in wanted.items() if name not in asked})
    about = Wanted(**(asked | {name: value for name, value in wanted.items() if name in asked}), environment=machine)
    found = resume.find("auto", tmp_path / "cpu", about)
    if says is None:
        assert found is not None
        assert found.path == path == resume.find(str(path), tmp_path / "cpu", about).path
        return
    assert found is None
    with pytest.raises(UserError, match=says):
        resume.find(str(path), tmp_path / "cpu", about)


def test_shards_of_one_plan_and_code_are_one_run(left, plan):
    files = [read_file(left()), read_file(left("run-2", 1, "2/2"))]
    merged = merge.merge(files)
    assert merged.records == tuple(file.records[0] for file in files)
    assert merge.merge(files[::-1]).run == merged.run


@pytest.mark.parametrize("changed", [{"commit": "f" * 16}, {"diff_hash": "d", "dirty": True}])
def test_records_of_other_code_are_no_part_of_a_run(left, changed):
    files = [read_file(left()), read_file(left("run-2", 1, "2/2", **changed))]
    with pytest.raises(RecordError, match="records of different code are no one run"):
        merge.merge(files)
