"""Whose records a run file may hold, what may be missing at its end, and who may write it."""

from __future__ import annotations

import os

import pytest

from harness.errors import RecordError, UserError
from harness.records import run_file, run_line
from harness.records.case import Plan
from harness.records.record import Record
from harness.records.run_file import RunWriter, is_written_now, read_file, record_lines, run_path

RUN = "run-1"


@pytest.fixture
def plan(make_case):
    return Plan(cases=(make_case(), make_case(seed=1)), skipped=())


def lost(case, plan, run=RUN, **changes):
    fields = {"run": run, "plan": plan.hash, "case": case, "key": case.key, "status": "lost", "reason": "a test"}
    return Record(started_at="2025-01-01T00:00:00+00:00", wall_s=0.0, **(fields | changes))


def left(folder, plan, *records, run=RUN, finished=True, **more):
    path = run_path(folder, "cpu", run)
    with RunWriter(path, run, plan, **more) as writer:
        writer.interrupted = not finished
        for record in records:
            writer.append(record)
    return path if finished else writer.partial


def test_a_record_of_another_plan_is_refused(tmp_path, plan, make_case):
    other = Plan(cases=(make_case(seed=2),), skipped=())
    with pytest.raises(RecordError, match="line 2: a record of another run or plan"):
        read_file(left(tmp_path, plan, lost(plan.cases[0], other)))


def test_a_record_of_another_run_is_refused_unless_it_is_named_as_a_source(tmp_path, plan):
    record = lost(plan.cases[0], plan, run="run-2")
    with pytest.raises(RecordError, match="line 2: a record of another run or plan"):
        read_file(left(tmp_path, plan, record))
    found = read_file(left(tmp_path, plan, record, run="run-3", sources=("run-2",)))
    assert (found.records, found.sources, found.run) == ((record,), ("run-2",), "run-3")
    with pytest.raises(RecordError, match="line 2: a record of another run or plan"):
        read_file(
            left(tmp_path, plan, lost(plan.cases[0], plan, run="run-4").model_copy(update={"plan": "p"}), run="run-4")
        )


def test_a_file_tells_its_shard_its_plan_and_the_hash_of_every_record(tmp_path, plan):
    records = tuple(lost(case, plan) for case in plan.cases)
    path = left(tmp_path, plan, *records, shard="1/2")
    found = read_file(path)
    assert (found.path, found.plan, found.plan_hash, found.shard, found.sources) == (path, plan, plan.hash, "1/2", ())
    assert found.hashes == tuple(run_line.digest(record.model_dump(mode="json")) for record in records)
    assert read_file(left(tmp_path, plan, run="run-2")).shard is None


def test_lines_are_copied_as_they_are_and_counted(tmp_path, plan):
    source = left(tmp_path, plan, *(lost(case, plan) for case in plan.cases))
    lines = record_lines(source)
    assert list(lines) == list(read_file(source).hashes)
    path = run_path(tmp_path, "cpu", "run-2")
    with RunWriter(path, "run-2", plan, sources=(RUN,)) as writer:
        writer.copy(lines.values())
    assert read_file(path).records == read_file(source).records


@pytest.mark.parametrize("cut", [1, 30])
def test_only_a_partial_file_may_end_within_a_line(tmp_path, plan, cut):
    partial = left(tmp_path, plan, *(lost(case, plan) for case in plan.cases), finished=False)
    text = partial.read_bytes()
    assert len(read_file(partial).records) == 2
    partial.write_bytes(text[:-cut])
    assert read_file(partial).records == (lost(plan.cases[0], plan),)
    finished = partial.with_name("other.jsonl")
    finished.write_bytes(text[:-cut])
    with pytest.raises(RecordError, match="line 3: truncated, it has no end of line"):
        read_file(finished)
    finished.write_bytes(text)
    with pytest.raises(RecordError, match="line 3: truncated after it"):
        read_file(finished)


def test_a_file_without_a_line_is_no_run(tmp_path, plan):
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    with pytest.raises(RecordError, match="empty, it has no header"):
        read_file(path)
    with pytest.raises(RecordError, match="cannot be read"):
        read_file(tmp_path / "none.jsonl")
    path.write_bytes(b"\xff\n")
    with pytest.raises(RecordError, match="cannot be read"):
        read_file(path)


def header(**changes):
    return run_line.written("header", {"schema_version": 7, "run": RUN, "plan": {"cases": [], "skipped": []}} | changes)


def test_a_header_that_is_none_is_refused(tmp_path):
    path = tmp_path / "file.jsonl.partial"
    path.write_text(header(plan={"cases": 1}))
    with pytest.raises(RecordError, match="line 1: not a valid plan"):
        read_file(path)
    path.write_text(header(run="../run"))
    with pytest.raises(RecordError, match=r"line 1: run name '\.\./run' is not letters"):
        read_file(path)
    path.write_text(header())
    assert read_file(path).records == ()


def test_a_record_that_no_build_would_make_is_refused_by_its_line(tmp_path, plan):
    path = left(tmp_path, plan, finished=False)
    content = lost(plan.cases[0], plan).model_dump(mode="json") | {"status": "splendid"}
    with path.open("a") as file:
        file.write(run_line.written("record", content))
    with pytest.raises(RecordError, match="line 2: not a valid record"):
        read_file(path)


@pytest.mark.parametrize("more", [0, 1])
def test_a_line_has_a_largest_size_for_writing_and_for_reading(tmp_path, plan, monkeypatch, more):
    record = lost(plan.cases[0], plan, reason="x" * 5000)
    path = left(tmp_path, plan, record, finished=False)
    size = len(path.read_bytes().splitlines(keepends=True)[1])
    monkeypatch.setattr(run_file, "MOST_BYTES", size - more)
    if not more:
        assert read_file(path).records == (record,)
        assert left(tmp_path / "again", plan, record).exists()
        return
    with pytest.raises(RecordError, match="line 2: larger than"):
        read_file(path)
    with pytest.raises(RecordError, match="is the most that is read again"):
        left(tmp_path, plan, lost(plan.cases[0], plan, run="run-2", reason="x" * 5000), run="run-2")


def test_a_line_may_be_as_large_as_64_mebibytes():
    assert run_file.MOST_BYTES == 64 * 1024 * 1024


def test_a_file_is_being_written_until_its_writer_ends(tmp_path, plan):
    writer = RunWriter(run_path(tmp_path, "cpu", RUN), RUN, plan)
    assert is_written_now(writer.partial)
    writer.__exit__(None, None, None)
    assert not is_written_now(writer.path)
    assert not writer.partial.exists()


def test_a_finished_file_that_appears_meanwhile_is_not_replaced(tmp_path, plan):
    writer = RunWriter(run_path(tmp_path, "cpu", RUN), RUN, plan)
    writer.path.write_text("another's")
    with pytest.raises(UserError, match=r"appeared meanwhile; the records of this run are in .*\.partial"):
        writer.finish()
    assert writer.path.read_text() == "another's"
    with pytest.raises(UserError, match="exists: another run"):
        RunWriter(run_path(tmp_path, "cpu", RUN), RUN, plan)


def test_a_link_in_place_of_the_partial_file_is_not_followed(tmp_path, plan):
    path = run_path(tmp_path, "cpu", RUN)
    path.parent.mkdir()
    os.symlink(tmp_path / "elsewhere", f"{path}.partial")
    with pytest.raises(UserError, match="exists: another run"):
        RunWriter(path, RUN, plan)
    assert not (tmp_path / "elsewhere").exists()


def test_every_line_is_on_disk_before_the_next(tmp_path, plan, monkeypatch):
    forced = []
    monkeypatch.setattr(run_file.os, "fsync", lambda file: forced.append(os.fstat(file).st_size))
    left(tmp_path, plan, *(lost(case, plan) for case in plan.cases))
    assert len(forced) == 4
    assert forced == sorted(set(forced))
