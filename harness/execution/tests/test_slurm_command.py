"""engine=slurm through the command line, on a real Slurm: what is killed, and what the same command does about it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.records.run_file import read_file

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SWEEP = ("-m", "+model=qwen3_4b_instruct_2507", "optimization=rotary", "timing=off", "report=[]", "hardware=cpu")
ON_SLURM = ("engine=slurm", "engine.cpus_per_gpu=1")


@pytest.fixture
def begin(loopback, tmp_path):
    paths = os.pathsep.join((str(ROOT), str(HERE)))
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
    until(lambda: queued().split() == ["RUNNING"])  # the orphan, which goes on without its parent
    code, said = ask("seed=1,8,2", *ON_SLURM, "engine.poll_s=0.5")
    assert code == 0, said
    assert f"going on with {partial.name}: 2 recorded (2 left by its jobs), 1 to run" in said
    (whole,) = finished(tmp_path)
    assert sorted(record.case.seed for record in whole.records) == [1, 2, 8]
    kept = {record.key: record.started_at for record in whole.records if record.key in left}
    assert kept == {key: record["started_at"] for key, record in left.items()}
    assert not queued()


def said_of(records):
    return {record.key: record.status for record in records}


def test_a_sweep_with_a_killed_worker_is_red_at_once_and_the_same_command_ends_as_a_local_run_does(
    begin, ask, tmp_path
):
    seeds = "seed=1,7,8,2"
    parent = begin(seeds, *ON_SLURM, "engine.poll_s=0.5")
    os.kill(hanging(tmp_path), signal.SIGKILL)
    killed_at = time.monotonic()
    said = parent.communicate(timeout=120)[0]
    assert (parent.returncode, time.monotonic() - killed_at < 60) == (1, True), said
    (red,) = finished(tmp_path)
    ends = {record.case.seed: record for record in red.records}
    assert [ends[seed].status for seed in (1, 2, 7, 8)] == ["passed", "passed", "failed", "killed"]
    assert ends[8].error.kind == "SIGKILL"
    code, said = ask(seeds, *ON_SLURM, "engine.poll_s=0.5")
    assert f"going on with {red.path.name}: 3 recorded, 1 to run" in said
    assert (code, "4 planned = 3 passed + 1 failed + 0 lost + 0 skipped" in said) == (1, True), said
    (whole,) = (file for file in finished(tmp_path) if file.run != red.run)
    assert ask(seeds, "engine=local", "out=local")[0] == 1
    (local,) = finished(tmp_path, "local")
    assert (whole.plan, said_of(whole.records)) == (local.plan, said_of(local.records))


@pytest.fixture
def node():
    """Change the state of the one node; it is in service again afterwards."""

    def update(state):
        words = [f"NodeName={socket.gethostname().partition('.')[0]}", f"State={state}", "Reason=test"]
        subprocess.run(["scontrol", "update", *words], check=True)

    yield update
    state = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=True).stdout
    if "drain" in state:
        update("RESUME")


def test_a_case_that_waits_while_its_node_is_drained_is_lost_and_passes_once_the_node_is_back(
    begin, ask, tmp_path, node
):
    filler = ["sbatch", "--parsable", "--exclusive", "--output=/dev/null", "--wrap=sleep 300"]
    number = subprocess.run(filler, capture_output=True, text=True, check=True).stdout.strip()
    until(lambda: queued().split() == ["RUNNING"])
    parent = begin("seed=1", *ON_SLURM, "engine.poll_s=0.5", "engine.pending_s=15")
    until(lambda: sorted(queued().split()) == ["PENDING", "RUNNING"])
    node("DRAIN")
    said = parent.communicate(timeout=90)[0]
    assert (parent.returncode, "1 lost" in said, "waited 15 s in the queue" in said) == (1, True, True), said
    subprocess.run(["scancel", number], check=True)
    node("RESUME")
    until(lambda: not queued())
    code, said = ask("seed=1", *ON_SLURM, "engine.poll_s=0.5")
    assert (code, "1 planned = 1 passed" in said) == (0, True), said


def test_a_job_that_finds_the_disk_full_loses_its_case_alone_and_the_same_command_completes_it(ask, tmp_path):
    full = "engine.setup=['test $SLURM_ARRAY_TASK_ID != 1 || ulimit -f 1']"
    code, said = ask("seed=1,2,3", *ON_SLURM, "engine.poll_s=0.5", full)
    assert (code, "3 planned = 2 passed" in said) == (1, True), said
    (red,) = finished(tmp_path)
    (unsaid,) = (record for record in red.records if record.status != "passed")
    assert (unsaid.status, "left no record" in unsaid.error.message) == ("killed", True)
    (cut,) = tmp_path.rglob("*.jobs/*.partial")
    assert cut.stat().st_size == 1024, "the job ended for another reason than the disk"
    code, said = ask("seed=1,2,3", *ON_SLURM, "engine.poll_s=0.5")
    assert (code, "2 recorded, 1 to run" in said, "3 planned = 3 passed" in said) == (0, True, True), said
