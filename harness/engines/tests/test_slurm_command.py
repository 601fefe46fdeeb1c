"""engine=slurm through the command line, on a real Slurm: what is killed, and what the same command does about it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.run_file import read_file

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SWEEP = ("-m", "+model=qwen3_4b_instruct_2507", "optimization=rotary", "timing=off", "report=[]", "hardware=cpu")
ON_SLURM = ("engine=slurm", "engine.cpus_per_gpu=1")


@pytest.fixture
def begin(loopback, tmp_path):
    paths = os.pathsep.join((str(ROOT), str(ROOT / "harness" / "tests"), str(HERE)))
    stand_in = {"PYTHONPATH": paths, "XDG_RUNTIME_DIR": str(tmp_path), "STAND_IN_PIDS": str(tmp_path / "pids")}

    def begin(*more):
        return subprocess.Popen(
            [sys.executable, str(HERE / "stand_in_cluster.py"), *SWEEP, *more],
            cwd=tmp_path,
            env=os.environ | stand_in,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


@pytest.fixture
def ask(begin):
    def ask(*more):
        process = begin(*more)
        said = process.communicate(timeout=180)[0]
        return process.returncode, said

    return ask


def until(happens, within_s=90.0):
    limit = time.monotonic() + within_s
    while not happens():
        assert time.monotonic() < limit, "it did not come to that"
        time.sleep(0.1)


def hanging(tmp_path):
    """The process id of the worker that hangs, once it is up."""
    path = tmp_path / "pids"
    until(lambda: path.exists() and path.read_text())
    return json.loads(path.read_text())[0]


def queued():
    return subprocess.run(["squeue", "--noheader", "--format", "%T"], capture_output=True, text=True, check=True).stdout


def finished(tmp_path, out="benchmark_results"):
    return [read_file(path) for path in sorted((tmp_path / out).rglob("*.jsonl"))]


def test_records_of_jobs_that_outlive_their_killed_parent_are_adopted_and_its_orphans_cancelled(begin, ask, tmp_path):
    parent = begin("seed=1,8,2", *ON_SLURM, "engine.poll_s=600")
    hanging(tmp_path)
    until(lambda: len(list(tmp_path.rglob("*.jobs/*.json"))) == 2)
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=20)
    left = {path.stem: json.loads(path.read_text()) for path in tmp_path.rglob("*.jobs/*.json")}
    (partial,) = tmp_path.rglob("*.partial")
    assert read_file(partial).records == ()
    assert queued().split() == ["RUNNING"], "the orphan goes on without its parent"
    code, said = ask("seed=1,8,2", *ON_SLURM, "engine.poll_s=0.5")
    assert code == 0, said
    assert f"going on with {partial.name}: 2 recorded (2 left by its jobs), 1 to run" in said
    (whole,) = finished(tmp_path)
    assert sorted(record.case.seed for record in whole.records) == [1, 2, 8]
    kept = {record.key: record.started_at for record in whole.records if record.key in left}
    assert kept == {key: record["started_at"] for key, record in left.items()}
    assert not queued()
