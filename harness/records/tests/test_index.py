"""The index follows the run files by itself and answers what they say."""

import os

import pytest

from harness.errors import RecordError, UnknownName, UserError
from harness.records import index
from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.record import ArmReport, Block, Record, Series
from harness.records.run_file import RunWriter, read_file, run_path
from harness.records.store import load

RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.5, noise=1.0, limit=1.0),))


@pytest.fixture
def write(tmp_path, make_case, environment):
    """`write(run, *milliseconds)`: a run of one case per value, whose reference takes twice as long."""

    def write(run, *milliseconds):
        cases = tuple(make_case(seed=seed) for seed, _ in enumerate(milliseconds))
        plan = Plan(cases=cases, skipped=())
        path = run_path(tmp_path, "cpu", run)
        with RunWriter(path, run, plan) as writer:
            for case, ms in zip(cases, milliseconds, strict=True):
                writer.append(record(run, plan, case, ms, environment))
        return path

    return write


def record(run, plan, case, ms, environment):
    def series(arm, factor):
        return Series(
            arm=arm, phase="decode", process=0, samples_ms=(ms * factor, ms * factor, 9 * ms), blocks=(0, 1, 2)
        )

    return Record(
        run=run,
        plan=plan.hash,
        case=case,
        key=case.key,
        status="passed",
        started_at="2025-01-01T00:00:00+00:00",
        wall_s=1.0,
        environment=environment,
        parity=RIGHT,
        arms=(ArmReport(name="candidate", label="c", process=0, peak_memory_bytes=77),),
        series=(series("candidate", 1), series("reference", 2)),
        blocks=(Block(process=0, index=2, phase="decode", throttle=("thermal",)),),
    )


def read_files(monkeypatch):
    """The names of the run files that are read from now on."""
    names = []
    monkeypatch.setattr(index, "read_file", lambda path: names.append(path.name) or read_file(path))
    return names


def test_a_row_holds_the_speed_without_dropped_blocks(write, tmp_path):
    write("one", 2.0)
    frame = load(tmp_path).set_index("arm")
    assert frame["median_ms"].to_dict() == {"candidate": 2.0, "reference": 4.0}
    assert frame["speedup"].to_dict() == {"candidate": 1.0, "reference": 2.0}
    assert frame["samples"].tolist() == [2, 2]
    assert frame["worst_usage"].tolist() == [0.5, 0.5]
    assert frame["peak_memory_bytes"]["candidate"] == 77


def test_only_what_changed_is_read_again(write, tmp_path, monkeypatch):
    write("one", 2.0)
    read = read_files(monkeypatch)
    assert len(load(tmp_path)) == len(load(tmp_path)) == 2
    write("two", 2.0, 3.0)
    assert len(load(tmp_path)) == 6
    assert read == ["one.jsonl", "two.jsonl"]


def test_a_file_that_is_gone_is_gone_from_the_answer(write, tmp_path):
    gone = write("one", 2.0)
    write("two", 3.0)
    load(tmp_path)
    gone.unlink()
    assert set(load(tmp_path)["run"]) == {"two"}


def test_a_file_edited_behind_the_index_is_refused_even_with_its_old_times(write, tmp_path):
    path = write("one", 2.0)
    load(tmp_path)
    before = path.stat()
    path.write_text(path.read_text().replace('"wall_s":1.0', '"wall_s":2.0'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RecordError, match="line 2: edited"):
        load(tmp_path)


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"not parquet"), lambda path: path.unlink()])
def test_a_damaged_index_is_built_anew(write, tmp_path, damage):
    write("one", 2.0)
    whole = load(tmp_path)
    damage(tmp_path / index.FOLDER / index.NAME)
    assert load(tmp_path).equals(whole)


def test_an_index_of_other_code_is_built_anew(write, tmp_path, monkeypatch):
    write("one", 2.0)
    load(tmp_path)
    read = read_files(monkeypatch)
    monkeypatch.setattr(index, "_layout", lambda: b"another")
    load(tmp_path)
    assert read == ["one.jsonl"]


def test_filters_keep_rows_by_value_or_by_one_of_several(write, tmp_path):
    path = write("one", 2.0)
    write("two", 3.0)
    assert load(tmp_path, run="two", arm="candidate")["median_ms"].tolist() == [3.0]
    assert len(load(tmp_path, run=("one", "two"), arm=("candidate", "again"))) == 2
    assert load(path, arm="reference").equals(load(tmp_path, run="one", arm="reference"))


def test_a_column_that_is_none_is_told_with_the_nearest(write, tmp_path):
    write("one", 2.0)
    with pytest.raises(UnknownName, match="unknown column 'modle': did you mean 'model'"):
        load(tmp_path, modle="toy")


def test_a_folder_that_is_none_is_told(tmp_path):
    with pytest.raises(UserError, match="nothing to load"):
        load(tmp_path / "nowhere")
