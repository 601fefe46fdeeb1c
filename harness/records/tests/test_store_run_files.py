from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys

import pytest

from harness.errors import RecordError, UserError
from harness.records.case import Plan, Skip
from harness.records.checks import Check, Parity
from harness.records.record import Block, Record, Series
from harness.records.run_file import RunWriter, read_run, run_path
from harness.records.store import load

RUN = "20250101-01234567-abc"


@pytest.fixture
def plan(make_case):
    return Plan(cases=(make_case(),), skipped=(Skip(case=make_case(seed=1), reason="no GPU"),))


@pytest.fixture
def records(plan):
    common = {"run": RUN, "plan": plan.hash, "started_at": "2025-01-01T00:00:00+00:00", "wall_s": 1.5}
    check = Check(level="op", subject="rotary", name="q", rule="max", error=1e-3, noise=1e-3, limit=2e-3)
    timed = Record(
        case=plan.cases[0],
        key=plan.cases[0].key,
        status="passed",
        parity=Parity(checks=(check,)),
        series=(
            Series(arm="reference", phase="decode", process=0, samples_ms=(4.0, 4.0, 40.0), blocks=(0, 1, 2)),
            Series(arm="candidate", phase="decode", process=0, samples_ms=(2.0, 2.0, 20.0), blocks=(0, 1, 2)),
        ),
        blocks=(Block(process=0, index=2, phase="decode", throttle=("thermal",)),),
        **common,
    )
    skip = plan.skipped[0]
    return (timed, Record(case=skip.case, key=skip.case.key, status="skipped", reason=skip.reason, **common))


@pytest.fixture
def written(tmp_path, plan, records):
    path = run_path(tmp_path, "cpu", RUN)
    with RunWriter(path, RUN, plan) as writer:
        for record in records:
            writer.append(record)
    return path


def rewrite(path, number, change):
    lines = path.read_text().splitlines(keepends=True)
    lines[number - 1] = change(lines[number - 1])
    path.write_text("".join(lines))


def test_what_is_written_is_read_back_equal_and_no_partial_file_stays(written, plan, records):
    assert read_run(written) == (plan, records)
    assert [path.name for path in written.parent.iterdir()] == [f"{RUN}.jsonl"]


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (2, lambda line: line.replace('"wall_s":1.5', '"wall_s":1.4'), "line 2: edited"),
        (2, lambda line: line.replace('"wall_s":1.5', '"wall_s":NaN'), "line 2: .*NaN is not a finite number"),
        (2, lambda line: line.replace('"wall_s":1.5', '"wall_s":1e999'), "line 2: .*1e999 is not a finite number"),
        (3, lambda line: line[:-20], "line 3: truncated"),
        (3, lambda line: line[:-20] + "\n", "line 3: truncated"),
        (2, lambda line: line.replace('"schema_version":7', '"schema_version":8'), "line 2: schema version 8"),
        (1, lambda line: line.replace('"schema_version":7', '"schema_version":8'), "line 1: schema version 8"),
        (1, lambda line: line.replace("no GPU", "no CPU"), "line 1: edited"),
        (1, lambda line: "", "line 1: not a header"),
        (3, lambda line: "", "line 3: 2 records were written and 1 are here"),
        (3, lambda line: line + line, "line 5: 2 records were written and 3 are here"),
        (4, lambda line: "", "line 3: truncated after it"),
        (4, lambda line: line.replace('"records":2', '"records":1'), "line 4: edited"),
        (4, lambda line: line + line, "line 4: not a record line"),
    ],
)
def test_a_line_that_cannot_be_trusted_is_refused_by_its_number(written, number, change, message):
    rewrite(written, number, change)
    with pytest.raises(RecordError, match=message):
        read_run(written)


def test_a_finished_file_of_a_version_without_a_last_line_is_read(written, plan, records):
    """As they are committed."""
    header, *others, _ = written.read_text().splitlines(keepends=True)
    content = json.loads(header)["header"] | {"schema_version": 3}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    old = f'{{"hash":"{hashlib.sha256(text.encode()).hexdigest()}","header":{text}}}\n'
    written.write_text(old + "".join(others))
    assert read_run(written) == (plan, records)


def test_a_record_of_another_run_is_refused(written, tmp_path, plan):
    other = run_path(tmp_path, "cpu", "other")
    with RunWriter(other, "other", plan):
        pass
    rewrite(other, 1, lambda header: header + written.read_text().splitlines(keepends=True)[1])
    with pytest.raises(RecordError, match=r"line 2: a record of another run"):
        read_run(other)


def test_a_second_writer_of_the_same_name_is_refused_while_writing_and_after(tmp_path, plan):
    path = run_path(tmp_path, "cpu", RUN)
    with RunWriter(path, RUN, plan), pytest.raises(UserError, match="exists: another run"):
        RunWriter(path, RUN, plan)
    with pytest.raises(UserError, match="exists: another run"):
        RunWriter(path, RUN, plan)


def test_a_writer_that_is_killed_loses_nothing_it_recorded(tmp_path, plan, records):
    path = run_path(tmp_path, "cpu", RUN)
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    (tmp_path / "record.json").write_text(records[0].model_dump_json())
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom harness.records.case import Plan\n"
        "from harness.records.record import Record\n"
        "from harness.records.run_file import RunWriter\nroot = Path(sys.argv[1])\n"
        "plan = Plan.model_validate_json((root / 'plan.json').read_text())\n"
        "writer = RunWriter(Path(sys.argv[2]), sys.argv[3], plan)\n"
        "writer.append(Record.model_validate_json((root / 'record.json').read_text()))\nos.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(path), RUN], check=False)
    assert ended.returncode == -9
    assert not path.exists()
    assert read_run(path.with_name(f"{path.name}.partial")) == (plan, records[:1])


def test_a_run_that_fails_leaves_its_partial_file(tmp_path, plan, records):
    path = run_path(tmp_path, "cpu", RUN)
    writer = RunWriter(path, RUN, plan)
    writer.append(records[0])
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not path.exists()
    assert read_run(writer.partial)[1] == records[:1]


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(tmp_path, plan):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write records under .*: Not a directory"):
        RunWriter(run_path(tmp_path / "file", "cpu", RUN), RUN, plan)


def test_a_full_disk_is_told_with_where_the_records_are(tmp_path, plan, records, monkeypatch):
    writer = RunWriter(run_path(tmp_path, "cpu", RUN), RUN, plan)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._file)
    with pytest.raises(UserError, match=r"No space left on device; what was recorded is in .*\.partial"):
        writer.append(records[0])
    os.close(full)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b", "x" * 65])
def test_names_that_could_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(UserError):
        run_path(tmp_path, "cpu", name)
    with pytest.raises(UserError):
        run_path(tmp_path, name, RUN)


def test_symlinks_are_refused_for_writing_and_for_reading(tmp_path, written, plan):
    (tmp_path / "gpu").symlink_to(tmp_path / "cpu")
    with pytest.raises(UserError, match="symlink"):
        run_path(tmp_path, "gpu", RUN)
    link = tmp_path / "link.jsonl"
    link.symlink_to(written)
    with pytest.raises(RecordError, match="symlink"):
        read_run(link)


def test_the_frame_has_a_row_per_phase_and_arm_without_dropped_blocks_and_one_for_what_was_not_timed(written, tmp_path):
    frame = load(tmp_path)
    timed = frame[frame["phase"] == "decode"].set_index("arm")["median_ms"]
    assert timed.to_dict() == {"reference": 4.0, "candidate": 2.0}
    assert frame["status"].tolist() == ["passed", "passed", "skipped"]
    assert math.isclose(frame["worst_usage"].iloc[0], 0.5)
    assert load(written).equals(frame)


def test_lines_hold_their_own_hash(written):
    assert all(len(json.loads(line)["hash"]) == 64 for line in written.read_text().splitlines())
