"""The real CPU clock, and what NVML's numbers mean in words."""

import gc
import os
import subprocess
import sys
import time

import pytest
import torch

from harness.timing.clock import CpuClock, Reading, clock_for
from harness.timing.telemetry import NoTelemetry, State, decode, foreign, telemetry_for

CPU = torch.device("cpu")


def test_cpu_clock_measures_milliseconds_with_the_collector_off():
    seen = []
    reading = CpuClock(CPU).measure(lambda: (seen.append(gc.isenabled()), time.sleep(0.01)))
    assert 10 <= reading.device_ms < 200
    assert reading.disagreement == 0
    assert seen == [False]
    assert gc.isenabled()


def test_the_collector_comes_back_after_a_failure():
    with pytest.raises(ZeroDivisionError):
        CpuClock(CPU).measure(lambda: 1 / 0)
    assert gc.isenabled()


def test_hidden_work_shows_as_disagreement():
    assert Reading(device_ms=1.0, wall_ms=4.0).disagreement == 0.75


def test_a_cpu_has_a_wall_clock_and_no_telemetry():
    assert isinstance(clock_for(CPU), CpuClock)
    assert isinstance(telemetry_for(CPU), NoTelemetry)
    assert telemetry_for(CPU).read() == State()
    assert (telemetry_for(CPU).energy_j(), telemetry_for(CPU).memory_bytes()) == (None, None)


@pytest.mark.parametrize(
    ("reasons", "dropping", "limiting"),
    [
        (0x00, (), ()),
        (0x01, (), ()),
        (0x04, (), ("software power cap",)),
        (0x20, ("software thermal slowdown",), ()),
        (0x88, ("hardware slowdown", "power brake"), ()),
        (0x44, ("hardware thermal slowdown",), ("software power cap",)),
        (0x400, ("unknown reason 0x400",), ()),
    ],
)
def test_throttle_bits_become_words_that_drop_or_do_not(reasons, dropping, limiting):
    assert decode(reasons) == (dropping, limiting)


@pytest.mark.parametrize(
    ("pids", "count"),
    [
        ([], 0),
        ([100], 0),
        ([100, 101], 0),
        ([100, 300], 1),
        ([300], 0),
        ([300, 301], 1),
    ],
    ids=["none", "this one", "its child", "a stranger", "this one by another number", "that and a stranger"],
)
def test_processes_outside_the_tree_are_foreign(pids, count):
    parents = {101: 100, 100: 7, 300: 1, 301: 7, 7: 1}
    assert foreign(pids, root=100, parent_of=parents.get) == count


def test_a_real_child_process_is_at_home():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert foreign([os.getpid(), child.pid], root=os.getpid()) == 0
        assert foreign([os.getpid(), child.pid], root=child.pid) == 1
