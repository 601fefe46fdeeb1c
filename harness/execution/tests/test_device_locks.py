from __future__ import annotations

import threading

import pytest

from harness.errors import UserError
from harness.execution import locks


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
