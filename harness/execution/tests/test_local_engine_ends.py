"""Every way a worker can end, with real processes really ending that way."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from harness.build.provenance import FRESH
from harness.execution import local, locks
from harness.execution.local import LocalEngine
from harness.execution.record_factory import RecordFactory
from harness.planning.hardware_target import HardwareTarget

CPU = HardwareTarget("cpu", "cpu", 0, (), 2**34, frozenset({"triton"}))


class Heard:
    """Keeps what the engine told."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.said: list[tuple[float, str]] = []

    def begin(self, case): ...

    def end(self, record): ...

    def part(self, name):
        self.parts.append(name)

    def say(self, fraction, text):
        self.said.append((fraction, text))


@pytest.fixture
def run(monkeypatch, tmp_path, environment):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("STAND_IN_PIDS", str(tmp_path / "pids"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def run(*cases, heard=None, places=None, workers=1, **more):
        stamp = RecordFactory("run", "0123456789abcdef", None, environment)
        asked = (places or {"cpu": CPU}, heard or Heard(), tmp_path, "stand_in_worker", workers)
        engine = LocalEngine(stamp, *asked, **more)
        found = {record.key: record for record in engine.records(cases)}
        return [found[case.key] for case in cases]

    return run


def two_processes(case):
    return case.model_copy(update={"timing": case.timing.model_copy(update={"processes": 2})})


def pids(tmp_path):
    path, limit = tmp_path / "pids", time.monotonic() + 15
    while not path.exists() or not path.read_text():
        assert time.monotonic() < limit, "the worker did not come up"
        time.sleep(0.02)
    return json.loads(path.read_text())


def ends(pid, within_s=5.0):
    """A killed process takes a moment to go; one that nobody waits for stays as a zombie."""
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_a_case_that_passes_is_proven_interpreted_and_timed_natively_in_fresh_processes(run, make_case):
    heard = Heard()
    (record,) = run(two_processes(make_case(optimizations=("fine",))), heard=heard)
    assert record.status == "passed"
    assert [series.process for series in record.series] == [0, 1]
    assert record.receipts[0].notes == ("TRITON_INTERPRET=1", "CUDA_VISIBLE_DEVICES=")
    assert record.timing_notes == ("TRITON_INTERPRET=None", "--kernels")
    assert len(record.parity.checks) == 3
    assert heard.parts == ["prove parity", "time, process 1 of 2", "time, process 2 of 2"]
    assert heard.said == [(0.5, "half way")]


def test_the_kernels_of_a_build_are_timed_with_the_first_case_of_it(run, make_case):
    first = two_processes(make_case(optimizations=("fine",)))
    longer = first.workload.model_copy(update={"prompt_tokens": 4096})
    again, other = first.model_copy(update={"workload": longer}), first.model_copy(update={"size": "slice"})
    found = run(first, again, other)
    assert ["--kernels" in record.timing_notes for record in found] == [True, False, True]


def test_a_gpu_case_sees_its_own_gpu_and_is_never_interpreted(run, make_case):
    gpu = HardwareTarget("h200", "cuda", 1, ("GPU-a", "GPU-b"), 2**37, frozenset({"cuda"}))
    (record,) = run(make_case(optimizations=("fine",), hardware="h200"), places={"h200": gpu})
    assert record.receipts[0].notes == ("TRITON_INTERPRET=None", "CUDA_VISIBLE_DEVICES=GPU-a")


@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("crash", "crashed", "prove parity: RuntimeError: the kernel went wrong"),
        ("quiet_exit", "crashed", "it said nothing and left no fragment"),
        ("segfault", "crashed", "it said nothing"),
        ("segfault_in_a_kernel", "crashed", "prove parity, at `kernel moe_down against its eager twin`: "),
        ("late_crash", "crashed", "prove parity"),
        ("killed", "killed", "killed from outside"),
        ("garbage", "crashed", "the worker's fragment cannot be trusted"),
        ("out_of_memory", "out_of_memory", "tried to allocate 9 GiB"),
        ("unproven", "crashed", "without a passed parity"),
    ],
)
def test_each_bad_end_has_its_own_word_and_reason_and_is_never_timed(run, make_case, how, status, message):
    heard = Heard()
    (record,) = run(make_case(optimizations=(how,)), heard=heard)
    assert record.status == status
    assert message in record.error.message
    assert record.series == ()
    assert heard.parts == ["prove parity"]


def test_what_was_refused_before_a_process_ended_stays_in_the_record(run, make_case):
    (record,) = run(make_case(optimizations=("refused_then_segfault",)))
    assert record.status == "crashed"
    assert [check.passed for check in record.parity.checks] == [True, False]
    assert not record.parity.passed
    assert record.parity.first_divergence is not None


def test_a_signal_is_told_by_name(run, make_case):
    (record,) = run(make_case(optimizations=("segfault",)))
    assert record.error.kind.startswith("signal 11")


def test_a_wrong_case_fails_without_being_timed_and_the_other_cases_go_on(run, make_case):
    wrong, fine = run(make_case(optimizations=("wrong",)), make_case(optimizations=("fine",)))
    assert (wrong.status, wrong.error, wrong.series) == ("failed", None, ())
    assert (fine.status, len(fine.series)) == ("passed", 1)


def test_a_crash_while_timing_keeps_the_parity_and_what_was_timed_before(run, make_case):
    (record,) = run(two_processes(make_case(optimizations=("crash_while_timing",))))
    assert record.status == "crashed"
    assert record.parity.passed
    assert [series.process for series in record.series] == [0]


def test_speed_is_withheld_when_the_timed_outputs_are_wrong(run, make_case):
    (record,) = run(make_case(optimizations=("wrong_after_timing",)))
    assert record.status == "failed"
    assert record.series == ()
    assert any("speed withheld" in note for note in record.timing_notes)


def test_a_deadline_kills_the_whole_process_group(run, make_case, tmp_path):
    (record,) = run(make_case(optimizations=("hang",), deadline_s=3.0))
    assert record.status == "timed_out"
    assert record.wall_s < 10
    assert all(ends(pid) for pid in pids(tmp_path))


def test_an_interrupt_kills_the_group_records_the_case_and_states_the_rest_as_lost(run, make_case, tmp_path):
    def interrupt():
        pids(tmp_path)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    first, second = run(make_case(optimizations=("hang",)), make_case(optimizations=("fine",)))
    thread.join()
    assert (first.status, first.error.kind) == ("killed", "KeyboardInterrupt")
    assert (second.status, second.reason) == ("lost", "interrupted before it started")
    assert all(ends(pid) for pid in pids(tmp_path))


def test_a_pool_runs_as_many_cases_at_a_time_as_it_has_gpus_each_on_its_own(run, make_case, tmp_path):
    gpus = HardwareTarget("h200", "cuda", 1, ("GPU-a", "GPU-b"), 2**37, frozenset({"cuda"}))
    cases = [make_case(optimizations=("together",), hardware="h200", seed=seed) for seed in (0, 1)]
    records = run(*cases, places={"h200": gpus}, workers=2)
    assert [record.status for record in records] == ["passed", "passed"]
    assert {record.receipts[0].notes[1] for record in records} == {
        "CUDA_VISIBLE_DEVICES=GPU-a",
        "CUDA_VISIBLE_DEVICES=GPU-b",
    }


def test_cases_that_need_the_same_gpu_take_turns(run, make_case):
    gpu = HardwareTarget("h200", "cuda", 1, ("GPU-a",), 2**37, frozenset({"cuda"}))
    heard = Heard()
    cases = [make_case(optimizations=("fine",), hardware="h200", seed=seed) for seed in (0, 1)]
    begun = time.monotonic()
    records = run(*cases, places={"h200": gpu}, workers=2, heard=heard)
    elapsed_s = time.monotonic() - begun
    assert [record.status for record in records] == ["passed"] * 2
    assert sum(record.wall_s for record in records) <= elapsed_s, "waiting for the GPU was counted as work"
    assert any("waiting for GPU-a, held by another case of this run since " in part for part in heard.parts)


def test_a_case_that_has_waited_long_enough_for_its_gpu_is_lost(run, make_case):
    gpu = HardwareTarget("h200", "cuda", 1, ("GPU-a",), 2**37, frozenset({"cuda"}))
    with locks.hold(("GPU-a",), 1, lambda held: None):
        (record,) = run(make_case(optimizations=("fine",), hardware="h200"), places={"h200": gpu}, wait_s=0.1)
    assert (record.status, record.reason) == ("lost", "waited 0.1 s for a device that others held")


def untimed(make_case, how):
    timing = make_case().timing.model_copy(update={"name": "off", "processes": 0})
    return [make_case(optimizations=(how,), timing=timing, seed=seed) for seed in (0, 1)]


def test_cases_that_time_nothing_share_a_cpu_whose_memory_holds_both(run, make_case):
    cases = untimed(make_case, "together")
    half = {case.key: CPU.memory_bytes // 2 for case in cases}
    records = run(*cases, workers=2, weights_bytes=half)
    assert [record.status for record in records] == ["passed"] * 2
    threads = f"OMP_NUM_THREADS={max(1, len(os.sched_getaffinity(0)) // 2)}"
    assert all(threads in record.receipts[0].notes for record in records)


def test_a_number_of_threads_that_somebody_asked_for_stands(run, make_case, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    records = run(*untimed(make_case, "together"), workers=2)
    assert all("OMP_NUM_THREADS=7" in record.receipts[0].notes for record in records)


def test_cases_that_a_cpus_memory_does_not_hold_together_take_turns(run, make_case):
    cases, heard = untimed(make_case, "fine"), Heard()
    more = {case.key: CPU.memory_bytes // 2 + 1 for case in cases}
    assert [record.status for record in run(*cases, workers=2, weights_bytes=more, heard=heard)] == ["passed"] * 2
    assert any("waiting for cpu, held by another case of this run since " in part for part in heard.parts)


def notes(record):
    return record.receipts[0].notes


def test_each_signoff_has_kernel_caches_of_its_own_that_begin_empty_and_go(run, make_case, monkeypatch, tmp_path):
    elsewhere = tmp_path / "filled by another build"
    elsewhere.mkdir()
    (elsewhere / "kernel").touch()
    for name in local.CACHES:
        monkeypatch.setenv(name, str(elsewhere))
    timing = make_case().timing.model_copy(update={"name": "signoff", "processes": 2})
    first, second = run(*(make_case(optimizations=("caches",), timing=timing, seed=seed) for seed in (0, 1)))
    for record in (first, second):
        assert record.status == "passed"
        for name in local.CACHES:
            assert f"{name} open to others 0, mine True, 0 kernels" in notes(record)
        assert "fresh True" in notes(record)
    places = [
        note.removeprefix("in ") for record in (first, second) for note in notes(record) if note.startswith("in ")
    ]
    assert len(set(places)) == 2 * len(local.CACHES), "no two cases share a cache"
    assert not any(Path(place).exists() for place in places)


def test_a_case_that_signs_nothing_keeps_the_caches_of_its_user(run, make_case, monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv(FRESH, "1")
    (record,) = run(make_case(optimizations=("caches",)))
    assert f"in {tmp_path / 'mine'}" in notes(record)
    assert "fresh False" in notes(record), "said by whoever started the engine, and true of nothing"


def test_leaving_the_records_early_ends_what_runs(make_case, run, environment, tmp_path):
    stamp = RecordFactory("run", "0123456789abcdef", None, environment)
    engine = LocalEngine(stamp, {"cpu": CPU}, Heard(), tmp_path, "stand_in_worker")
    records = engine.records([make_case(optimizations=("fine",)), make_case(optimizations=("hang",))])
    assert next(records).status == "passed"
    pids(tmp_path)
    records.close()
    assert all(ends(pid) for pid in pids(tmp_path))
