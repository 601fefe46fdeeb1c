"""Jobs on a real Slurm of one node, with accounting and two fake GPUs, started here on loopback."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness.execution import locks
from harness.execution.record_factory import RecordFactory
from harness.execution.slurm import SlurmEngine
from harness.planning.hardware_target import HardwareTarget
from harness.planning.settings import SlurmEngineSettings

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PLACES = {
    "cpu": HardwareTarget("cpu", "cpu", 0, (), 2**34, frozenset({"triton"})),
    "h200": HardwareTarget("h200", "cuda", 1, (), 2**37, frozenset({"triton", "cuda"})),
    "h200_x2": HardwareTarget("h200_x2", "cuda", 2, (), 2**37, frozenset({"triton", "cuda"})),
}


class Quiet:
    def begin(self, case): ...
    def part(self, name): ...
    def say(self, fraction, text): ...
    def end(self, record): ...


@pytest.fixture
def run(loopback, monkeypatch, tmp_path, environment):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, HERE, HERE / "stand_in_driver"))))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("STAND_IN_PIDS", str(tmp_path / "pids"))

    def run(*cases, pending_s=120.0, memory_gib_per_gpu=None, weights_bytes=None):
        settings = SlurmEngineSettings(
            name="slurm",
            partition=None,
            account=None,
            setup=(),
            cpus_per_gpu=1,
            memory_gib_per_gpu=memory_gib_per_gpu,
            pending_s=pending_s,
            poll_s=0.5,
        )
        stamp = RecordFactory("run", "0123456789abcdef", "1/2", environment)
        weights = weights_bytes or {}
        engine = SlurmEngine(stamp, PLACES, Quiet(), settings, tmp_path / "jobs", "stand_in_worker", weights)
        found = {record.key: record for record in engine.records(cases)}
        return [found[case.key] for case in cases]

    return run


def when_running(tmp_path, act):
    """Act once the worker of a hanging case is up."""

    def wait():
        limit = time.monotonic() + 90
        while not (tmp_path / "pids").exists() and time.monotonic() < limit:
            time.sleep(0.1)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_each_job_has_gpus_of_its_own_and_leaves_the_record_that_a_local_run_leaves(run, make_case, environment):
    together = [make_case(optimizations=("together",), hardware="h200", seed=seed, deadline_s=60.0) for seed in (0, 1)]
    both = make_case(optimizations=("fine",), hardware="h200_x2", deadline_s=60.0)
    plain = make_case(optimizations=("fine",), deadline_s=60.0)
    wrong = make_case(optimizations=("wrong",), deadline_s=60.0)
    *paired, of_two, on_cpu, broken = run(*together, both, plain, wrong)
    assert [record.status for record in (*paired, of_two, on_cpu, broken)] == ["passed"] * 4 + ["failed"]
    seen = {record.receipts[0].notes[1] for record in paired}
    assert seen == {"CUDA_VISIBLE_DEVICES=GPU-stand-in-0", "CUDA_VISIBLE_DEVICES=GPU-stand-in-1"}
    assert of_two.receipts[0].notes[1] == "CUDA_VISIBLE_DEVICES=GPU-stand-in-0,GPU-stand-in-1"
    assert (on_cpu.shard, on_cpu.plan, len(on_cpu.series)) == ("1/2", "0123456789abcdef", 1)
    node = {record.environment.platform for record in (*paired, of_two, on_cpu, broken)}
    assert node == {f"{platform.system()} {platform.release()} {platform.machine()}"}, "not of the submitting machine"
    assert {record.environment.command for record in paired} == {environment.command}


def test_a_job_asks_for_the_memory_that_its_case_holds(run, make_case, tmp_path):
    heavy = make_case(optimizations=("fine",), size="slice", deadline_s=60.0)
    light = make_case(optimizations=("fine",), deadline_s=60.0)
    of_two = make_case(optimizations=("fine",), size="slice", hardware="h200_x2", deadline_s=60.0)
    weights = {heavy.key: 2 * 2**30, of_two.key: 20 * 2**30}
    run(heavy, light, of_two, memory_gib_per_gpu=1.5, weights_bytes=weights)
    jobs = ",".join(path.name.split("_")[0] for path in (tmp_path / "jobs" / "submitit").glob("*_submitted.pkl"))
    words = ["sacct", "--noheader", "--parsable2", "--allocations", "--jobs", jobs, "--format", "ReqMem"]
    asked = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(asked) == ["1.50G", "10G", "3G"]


def test_a_killed_job_is_known_within_a_minute_and_the_others_complete(run, make_case, tmp_path):
    def kill():
        subprocess.run(
            ["scancel", "--full", "--signal=KILL", "--name=inference-pio-run", "--state=RUNNING"], check=True
        )

    killer = when_running(tmp_path, kill)
    begun = time.monotonic()
    hanging = make_case(optimizations=("hang",), hardware="h200_x2", deadline_s=300.0)
    late = make_case(optimizations=("fine",), hardware="h200", deadline_s=60.0)
    killed, fine = run(hanging, late)
    killer.join()
    assert (killed.status, fine.status) == ("killed", "passed"), killed.error
    said = killed.error.message
    assert "left no record" in said or "killed from outside" in said, "the job or its worker, whichever died first"
    assert time.monotonic() - begun < 60


def test_the_wait_for_a_gpu_that_a_run_outside_of_slurm_holds_is_not_in_the_time_of_the_case(run, make_case):
    both = make_case(optimizations=("fine",), hardware="h200_x2", deadline_s=20.0)
    let_go = threading.Event()

    def hold():
        with locks.hold(("GPU-stand-in-1",), 1, lambda held: None):
            let_go.wait(25.0)

    holder = threading.Thread(target=hold)
    holder.start()
    begun = time.monotonic()
    (record,) = run(both)
    let_go.set()
    holder.join()
    assert record.status == "passed", record.error
    assert time.monotonic() - begun > 25.0 > record.wall_s


def test_a_case_past_its_deadline_is_timed_out_by_its_job(run, make_case):
    (record,) = run(make_case(optimizations=("hang",), deadline_s=5.0))
    assert record.status == "timed_out"


def test_jobs_that_wait_for_a_drained_node_are_given_up_and_lost(run, make_case):
    node = f"NodeName={socket.gethostname().partition('.')[0]}"
    subprocess.run(["scontrol", "update", node, "State=DRAIN", "Reason=test"], check=True)
    try:
        (record,) = run(make_case(optimizations=("fine",)), pending_s=4.0)
    finally:
        subprocess.run(["scontrol", "update", node, "State=RESUME"], check=True)
    assert record.status == "lost"
    assert "waited 4 s in the queue" in record.reason
    queue = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True)
    assert "PENDING" not in queue.stdout
