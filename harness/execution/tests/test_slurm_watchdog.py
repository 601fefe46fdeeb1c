"""What the watchdog makes of a Slurm that is stuck or silent: commands of that name that say what a test lets them."""

from __future__ import annotations

import os

import pytest

from harness.errors import UserError
from harness.execution import job, slurm, slurm_queue
from harness.execution.record_factory import RecordFactory
from harness.execution.slurm import SlurmEngine
from harness.planning.hardware_target import HardwareTarget
from harness.planning.settings import SlurmEngineSettings
from harness.records.checks import Check, Parity

pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.5, noise=1.0, limit=1.0),))
SETTINGS = SlurmEngineSettings(
    name="slurm",
    partition=None,
    account=None,
    setup=(),
    cpus_per_gpu=1,
    memory_gib_per_gpu=None,
    pending_s=60.0,
    poll_s=0.1,
)


class Quiet:
    def begin(self, case): ...
    def part(self, name): ...
    def say(self, fraction, text): ...
    def end(self, record): ...


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Make a command of Slurm do what a line of shell says."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "SLACK_S", 0.5)
    monkeypatch.setattr(job, "WAIT_S", 0.0)

    def fake(name, line):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    fake("srun", "exit 1")
    fake("sacct", "exit 1")
    fake("scancel", f"echo $* >> {tmp_path}/cancelled")
    fake("sbatch", "echo Submitted batch job 7")
    return fake


@pytest.fixture
def stamp(environment):
    return RecordFactory("run", "0123456789abcdef", None, environment)


@pytest.fixture
def run(fake, stamp, tmp_path):
    def run(*cases):
        place = HardwareTarget("cpu", "cpu", 0, (), 2**34, frozenset({"triton"}))
        engine = SlurmEngine(stamp, {"cpu": place}, Quiet(), SETTINGS, tmp_path / "jobs", "stand_in_worker")
        return {record.case.seed: record for record in engine.records(cases)}

    return run


def two(make_case):
    return [make_case(seed=seed, deadline_s=1.0) for seed in (0, 1)]


def test_a_job_that_slurm_never_ends_is_timed_out_past_its_limit_and_cancelled(fake, run, make_case, tmp_path):
    fake("squeue", "echo '7_0|COMPLETING|None'; echo '7_1|RUNNING|None'")
    records = run(*two(make_case))
    assert [records[seed].status for seed in (0, 1)] == ["timed_out", "timed_out"]
    assert "still there 1.5 s after it began" in records[0].error.message
    assert sorted((tmp_path / "cancelled").read_text().split()) == ["7_0", "7_1"]


def test_a_record_on_disk_stands_while_slurm_is_silent_and_the_other_case_is_lost_in_the_end(
    fake, run, make_case, tmp_path, stamp
):
    left, silent = two(make_case)
    ready = tmp_path / f"{left.key}.json"
    ready.write_text(stamp.record(left, 1.0, status="passed", parity=RIGHT).model_dump_json())
    fake("sbatch", f"cp {ready} {tmp_path}/jobs; echo Submitted batch job 7")
    fake("squeue", "exit 1")
    records = run(left, silent)
    assert records[left.seed].status == "passed"
    assert records[silent.seed].status == "lost"
    assert "Slurm said nothing of job 7_1" in records[silent.seed].reason


def test_a_job_that_waits_for_longer_than_it_may_run_is_not_past_its_limit(fake, run, make_case, tmp_path):
    fake("sbatch", f"date +%s > {tmp_path}/began; echo Submitted batch job 7")
    waits = "printf '7_0|PENDING|Priority\\n7_1|PENDING|Priority\\n'"
    fake("squeue", f"[ $(date +%s) -gt $(($(cat {tmp_path}/began) + 3)) ] || {waits}")
    fake("sacct", "echo CANCELLED by 0")
    records = run(*two(make_case))
    assert [records[seed].status for seed in (0, 1)] == ["killed", "killed"]
    assert "ended CANCELLED and left no record" in records[0].error.message


def test_jobs_that_do_not_end_are_not_waited_for_without_end(fake, monkeypatch):
    monkeypatch.setattr(slurm_queue, "ENDING_S", 0.5)
    fake("squeue", "echo 7")
    with pytest.raises(UserError, match="do not end"):
        slurm_queue.end("inference-pio-run")
