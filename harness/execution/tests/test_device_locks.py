from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.execution import locks

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys
from harness.execution import locks

with locks.hold(("cuda:0",), 1, print, shared="shared" in sys.argv):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def runtime(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def nobody(held):
    raise AssertionError(f"waited for {held}")


def test_two_runs_take_different_free_gpus():
    with locks.hold(("GPU-a", "GPU-b"), 1, nobody) as first, locks.hold(("GPU-a", "GPU-b"), 1, nobody) as second:
        assert (first, second) == (("GPU-a",), ("GPU-b",))


def test_a_second_holder_waits_and_says_for_what_until_the_first_lets_go():
    waited, entered = threading.Event(), threading.Event()

    def second():
        with locks.hold(("cpu",), 1, lambda held: waited.set()):
            entered.set()

    with locks.hold(("cpu",), 1, nobody):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(5)
        assert not entered.wait(0.1)
    assert entered.wait(5)
    thread.join()


def test_shared_holders_are_together_and_keep_out_who_wants_it_alone():
    waited, entered = threading.Event(), threading.Event()

    def alone():
        with locks.hold(("cpu",), 1, lambda held: waited.set()):
            entered.set()

    with locks.hold(("cpu",), 1, nobody, shared=True):
        with locks.hold(("cpu",), 1, nobody, shared=True):
            thread = threading.Thread(target=alone)
            thread.start()
            assert waited.wait(5)
        assert not entered.wait(0.1)
    assert entered.wait(5)
    thread.join()


def test_a_partial_taking_is_given_back_before_waiting():
    """Two runs that each want both GPUs must not hold one each for ever."""
    waited = threading.Event()

    def both():
        with locks.hold(("GPU-a", "GPU-b"), 2, lambda held: waited.set()):
            pass

    with locks.hold(("GPU-b",), 1, nobody):
        thread = threading.Thread(target=both)
        thread.start()
        assert waited.wait(5)
    thread.join(5)
    assert not thread.is_alive()


def test_a_folder_that_others_can_write_is_refused(runtime):
    locks.lock_folder().chmod(0o777)
    with pytest.raises(UserError, match="can be written by others"):
        locks.lock_folder()


@pytest.fixture
def holder(runtime):
    """A function: starts a process that holds cuda:0 until its input ends. Gives the process."""
    started = []

    def start(*words):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "MY_API_KEY": "s3cret-of-mine"}
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def told_while_waiting(shared=False):
    """What one who wants cuda:0 is told before it has waited for half a second."""
    told = []

    def rest(seconds):
        raise locks.Busy

    with pytest.raises(locks.Busy), locks.hold(("cuda:0",), 1, told.append, rest, shared=shared):
        raise AssertionError("it was free")
    return told


def test_who_waits_is_told_who_holds_the_device_since_when_and_no_secret(holder):
    process = holder("+model=m", "weights=s3cret-of-mine")
    (told,) = told_while_waiting()
    assert re.fullmatch(rf"cuda:0, held by pid {process.pid} \(python.* since (\d\d\d\d-\d\d-\d\d )?\d\d:\d\d", told)
    assert "s3cret" not in (locks.lock_folder() / "cuda_0.lock").read_text()


def test_all_who_share_a_device_are_told_and_those_who_left_are_not(holder):
    first, second = holder("shared"), holder("shared")
    (told,) = told_while_waiting()
    assert f"pid {first.pid} " in told
    assert f"pid {second.pid} " in told
    first.communicate("\n")
    (told,) = told_while_waiting()
    assert f"pid {first.pid} " not in told
    assert f"pid {second.pid} " in told


def test_a_holder_that_was_killed_is_not_told(holder):
    dead = holder("shared")
    dead.kill()
    dead.wait()
    file = locks.lock_folder() / "cuda_0.lock"
    assert f'"pid": {dead.pid}' in file.read_text(), "it could not clean up"
    living = holder("shared")
    (told,) = told_while_waiting()
    assert f"pid {living.pid} " in told
    assert f"pid {dead.pid} " not in told
    living.communicate("\n")
    with locks.hold(("cuda:0",), 1, nobody):
        assert f'"pid": {dead.pid}' not in file.read_text(), "who holds it alone removes what was left"
    assert file.read_text().strip() == ""


def test_a_process_that_got_the_number_of_a_dead_one_is_not_told(holder):
    holder()
    file = locks.lock_folder() / "cuda_0.lock"
    file.write_text(re.sub(r'"born": "\d+"', '"born": "1"', file.read_text()))
    assert told_while_waiting() == ["cuda:0"]


def test_who_waits_is_told_again_when_another_holds_the_device(holder):
    first, told = holder("shared"), []

    def rest(seconds):
        if len(told) == 1:
            holder("shared")
            first.communicate("\n")
        else:
            raise locks.Busy

    with pytest.raises(locks.Busy), locks.hold(("cuda:0",), 1, told.append, rest):
        raise AssertionError("it was free")
    assert len(set(told)) == 2
