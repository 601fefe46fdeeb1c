"""One plan in shards, merged and gone on with, by real processes that are really killed."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.commands import merge
from harness.commands.main import main
from harness.errors import RecordError
from harness.records.run_file import RunWriter, read_file

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SWEEP = ("-m", "+model=qwen3_4b_instruct_2507", "optimization=rotary", "timing=off", "report=[]")


def started(folder, *more, **options):
    paths = os.pathsep.join(map(str, (ROOT, HERE)))
    stand_in = {"PYTHONPATH": paths, "XDG_RUNTIME_DIR": str(folder), "STAND_IN_PIDS": str(folder / "pids")}
    return subprocess.Popen(
        [sys.executable, str(HERE / "stand_in_command.py"), *SWEEP, *more],
        cwd=folder,
        env=os.environ | stand_in,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@pytest.fixture
def begin(tmp_path):
    return functools.partial(started, tmp_path)


@pytest.fixture
def ask(begin):
    def ask(*more, **options):
        process = begin(*more, **options)
        said = process.communicate(timeout=120)[0]
        return process.returncode, said

    return ask


def runs(folder, pattern="*.jsonl"):
    return sorted(folder.rglob(pattern))


def merged(*paths, out):
    said, complained = io.StringIO(), io.StringIO()
    code = main(["merge", *map(str, paths), f"out={out}"], said, complained)
    return code, said.getvalue() + complained.getvalue()


def conclusions(path):
    return {record.key: record.status for record in read_file(path).records}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The two shards of one plan, the first shard once more, and a shard of another plan."""
    folder = tmp_path_factory.mktemp("shards")
    asked = {
        "first": ("seed=1,7", "shard=1/2"),
        "second": ("seed=1,7", "shard=2/2"),
        "again": ("seed=1,7", "shard=1/2"),
        "other": ("seed=1,2", "shard=2/2"),
    }
    for name, more in asked.items():
        process = started(folder, *more, f"out={name}")
        said = process.communicate(timeout=120)[0]
        assert process.returncode in (0, 1), said
    return {name: runs(folder / name)[0] for name in asked}


@pytest.fixture
def two_shards(made, tmp_path):
    return [Path(shutil.copy(made[name], tmp_path)) for name in ("first", "second")]


def test_merged_shards_hold_the_keys_and_verdicts_of_the_run_in_one(ask, two_shards, tmp_path):
    code, _ = ask("seed=1,7", "out=whole")
    (whole,) = runs(tmp_path / "whole")
    shared_code, said = merged(*two_shards, out=tmp_path / "merged")
    assert (shared_code, code) == (1, 1), said
    assert conclusions(runs(tmp_path / "merged")[0]) == conclusions(whole)
    assert "2 planned = 1 passed + 1 failed + 0 lost + 0 skipped" in said
    assert {record.shard for path in two_shards for record in read_file(path).records} == {"1/2", "2/2"}


def test_merging_has_no_order_and_may_be_repeated(two_shards, tmp_path):
    one = merge.merge([read_file(path) for path in two_shards])
    other = merge.merge([read_file(path) for path in reversed(two_shards)])
    again = merge.merge([read_file(merge.write(one, tmp_path)), read_file(two_shards[0])])
    assert one == other == again


def test_a_shard_that_never_reports_is_lost_and_refused(two_shards, tmp_path):
    code, said = merged(two_shards[0], out=tmp_path / "merged")
    assert code == 1
    assert "1 lost" in said
    assert "lost: no shard recorded it" in said
    once = merge.merge([read_file(two_shards[0])])
    again = merge.merge([read_file(merge.write(once, tmp_path))])
    assert again == once
    completed = merge.merge([read_file(merge.write(once, tmp_path)), read_file(two_shards[1])])
    assert completed == merge.merge([read_file(path) for path in two_shards])


def test_the_same_shard_run_twice_is_refused_by_name(made, two_shards, tmp_path):
    again = made["again"]
    code, said = merged(*two_shards, again, out=tmp_path / "merged")
    assert code == 2
    assert again.name in said
    assert two_shards[0].name in said
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"wall_s":', '"wall_s":1'), "line 2: edited"),
        (lambda text: text[:-9], "truncated"),
        (lambda text: "".join(text.splitlines(keepends=True)[:-1]), "truncated"),
        (lambda text: "".join(text.splitlines(keepends=True)[:1]), "truncated"),
    ],
)
def test_an_edited_or_truncated_shard_is_refused_by_name(two_shards, tmp_path, change, message):
    two_shards[1].write_text(change(two_shards[1].read_text()))
    code, said = merged(*two_shards, out=tmp_path / "merged")
    assert code == 2
    assert two_shards[1].name in said
    assert message in said


def test_shards_of_different_plans_are_refused_by_name(made, two_shards, tmp_path):
    code, said = merged(two_shards[0], made["other"], out=tmp_path / "merged")
    assert code == 2
    assert "not shards of one plan" in said


def test_a_merge_that_measured_nothing_is_red(two_shards, tmp_path):
    emptied = tmp_path / "emptied.jsonl"
    with RunWriter(emptied, "emptied", read_file(two_shards[0]).plan):
        pass
    code, said = merged(emptied, out=tmp_path / "merged")
    assert (code, "0 passed + 0 failed + 2 lost" in said) == (1, True)


def worker_that_hangs(tmp_path):
    limit = time.monotonic() + 40
    while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
        assert time.monotonic() < limit
        time.sleep(0.05)
    return json.loads((tmp_path / "pids").read_text())[0]


def killed_while_hanging(process, tmp_path):
    worker_that_hangs(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)


def test_a_parent_killed_between_cases_loses_nothing_and_is_gone_on_with(begin, ask, tmp_path):
    killed_while_hanging(begin("seed=1,8,2"), tmp_path)
    worker = json.loads((tmp_path / "pids").read_text())[0]
    (partial,) = runs(tmp_path, "*.partial")
    assert [record.case.seed for record in read_file(partial).records] == [1]
    code, said = ask("seed=1,8,2")
    assert code == 0, said
    assert f"going on with {partial.name}: 1 recorded, 2 to run" in said
    (finished,) = runs(tmp_path)
    assert sorted(record.case.seed for record in read_file(finished).records) == [1, 2, 8]
    assert not Path(f"/proc/{worker}/cmdline").exists() or not Path(f"/proc/{worker}/cmdline").read_bytes()
    assert not runs(tmp_path, "*.partial")


def test_a_finished_run_that_left_a_case_killed_is_gone_on_with_once(begin, ask, tmp_path):
    process = begin("seed=1,8,2")
    os.kill(worker_that_hangs(tmp_path), signal.SIGKILL)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "3 planned = 2 passed" in said
    (red,) = runs(tmp_path)
    code, said = ask("seed=1,8,2")
    assert code == 0, said
    assert f"going on with {red.name}: 2 recorded, 1 to run" in said
    (whole,) = set(runs(tmp_path)) - {red}
    assert sorted(record.case.seed for record in read_file(whole).records) == [1, 2, 8]
    assert read_file(whole).sources == (red.stem,)
    assert "going on" not in ask("seed=1,8,2")[1], "the last run is whole: the next one is a new one"


def test_an_interrupt_leaves_a_run_that_the_same_command_goes_on_with(begin, ask, tmp_path):
    process = begin("seed=1,8,2")
    while not (tmp_path / "pids").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 1
    assert "interrupted: the same command goes on where this stopped" in said
    code, said = ask("seed=1,8,2")
    assert code == 0, said
    assert "3 planned = 3 passed + 0 failed + 0 lost + 0 skipped" in said


def test_resume_off_starts_anew_and_another_plan_is_never_gone_on_with(begin, ask, tmp_path):
    killed_while_hanging(begin("seed=1,8"), tmp_path)
    (partial,) = runs(tmp_path, "*.partial")
    assert "going on" not in ask("seed=1,8", "resume=off")[1]
    assert "going on" not in ask("seed=1,2")[1]
    code, said = ask("seed=1,2", f"resume={partial.relative_to(tmp_path)}")
    assert code == 2
    assert "cannot go on with" in said
    assert "and this is plan" in said


def test_a_full_disk_keeps_what_was_recorded_and_is_gone_on_with(ask, tmp_path):
    def nearly_full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    seeds = "seed=1,2,3,4"
    code, said = ask(seeds, preexec_fn=nearly_full)
    assert code == 2, said
    assert "cannot go on writing: File too large; what was recorded is in" in said
    (partial,) = runs(tmp_path, "*.partial")
    recorded = len(read_file(partial).records)
    assert 0 < recorded < 4
    code, said = ask(seeds)
    assert (code, f"{recorded} recorded, {4 - recorded} to run" in said) == (0, True), said


def test_two_shards_write_at_once_into_one_folder(begin, tmp_path):
    both = [begin("seed=1,2", f"shard={index}/2") for index in (1, 2)]
    assert [process.communicate(timeout=120) and process.returncode for process in both] == [0, 0]
    code, said = merged(tmp_path / "benchmark_results", out=tmp_path / "merged")
    assert code == 0, said
    assert "2 planned = 2 passed" in said


def test_a_record_outside_of_the_plan_is_refused(two_shards):
    file = read_file(two_shards[0])
    alien = file.records[0].case.model_copy(update={"seed": 99})
    record = file.records[0].model_copy(update={"case": alien, "key": alien.key})
    with pytest.raises(RecordError, match="is not in the plan"):
        merge.merge([dataclasses.replace(file, records=(record,), hashes=("0",))])


def test_a_case_that_one_file_holds_twice_is_refused_by_its_name(two_shards):
    file = read_file(two_shards[0])
    twice = dataclasses.replace(file, records=file.records * 2, hashes=file.hashes * 2)
    with pytest.raises(RecordError, match=rf"{two_shards[0].name}: case {file.records[0].key} is in it 2 times"):
        merge.merge([twice])


def test_shards_of_different_commits_are_refused_by_name(two_shards):
    first, second = map(read_file, two_shards)
    moved = [record.environment.model_copy(update={"commit": "f" * 40}) for record in second.records]
    records = [
        record.model_copy(update={"environment": there}) for record, there in zip(second.records, moved, strict=True)
    ]
    with pytest.raises(RecordError, match=rf"{two_shards[1].name} of commit ffffffff"):
        merge.merge([first, dataclasses.replace(second, records=tuple(records))])
