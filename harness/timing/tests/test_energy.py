"""Energy of a call, on a clock and a counter made of numbers, and what NVML's answers become."""

import sys
from types import SimpleNamespace

import pytest
import torch

from harness.timing.clock import Reading
from harness.timing.energy import STINT_S, joules_per_call
from harness.timing.protocol import Timed
from harness.timing.telemetry import NoTelemetry, NvmlTelemetry

IDLE_W = 100.0


class Grid(NoTelemetry):
    """A clock and an energy counter in one: work takes time at a power, and the counter moves in steps."""

    device = torch.device("cpu")
    shortest_ms = 5.0

    def __init__(self, step_s=0.1):
        self.seconds = 0.0
        self.joules = 0.0
        self.step_s = step_s
        self.held = (0.0, 0.0)

    def spend(self, seconds, watts):
        self.seconds += seconds
        self.joules += seconds * watts
        if self.seconds - self.held[0] >= self.step_s:
            self.held = (self.seconds, self.joules)

    def now_s(self):
        return self.seconds

    def measure(self, run):
        began = self.seconds
        run()
        return Reading((self.seconds - began) * 1e3, (self.seconds - began) * 1e3)

    def energy_j(self):
        return self.held[1]

    def arm(self, seconds, watts, calls=1):
        return Timed("candidate", lambda: self.spend(seconds, watts), lambda: None, calls)


@pytest.mark.parametrize(("seconds", "calls"), [(0.016, 8), (0.2, 1), (3.0, 1)])
def test_energy_of_a_call_is_its_power_times_its_time(seconds, calls):
    grid = Grid()
    grid.spend(5.0, IDLE_W)
    found = joules_per_call(grid.arm(seconds, 600.0, calls), grid, grid)
    assert found == pytest.approx(600.0 * seconds / calls, rel=0.1)


def test_the_power_of_the_arm_before_is_not_counted():
    grid = Grid()
    joules_per_call(grid.arm(0.016, 700.0), grid, grid)
    assert joules_per_call(grid.arm(0.016, 200.0), grid, grid) == pytest.approx(200.0 * 0.016, rel=0.1)


def test_a_short_stint_would_not_do():
    """The counter's step is why each arm runs alone for so long: one sample is shorter than it."""
    grid = Grid()
    assert grid.step_s <= 0.05 * STINT_S
    before = grid.energy_j()
    grid.spend(0.016, 600.0)
    assert grid.energy_j() == before


def test_where_nothing_counts_energy_nothing_runs():
    grid = Grid()
    assert joules_per_call(grid.arm(1.0, 100.0), grid, NoTelemetry()) is None
    assert grid.seconds == 0


def test_ranks_stop_when_the_first_says_so():
    grid, asked = Grid(), []

    def agree(decided):
        asked.append(decided)
        return len(asked) % 4 != 0

    joules_per_call(grid.arm(10.0, 100.0), grid, grid, agree)
    assert grid.seconds == 2 * 3 * 10.0


class Unsupported(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """NVML as it answers on a data-center GPU, and `lacking`: what this GPU or container does not tell."""
    lacking = set()

    def answers(name, value):
        def ask(*_):
            if name in lacking:
                raise Unsupported
            return value

        return ask

    stand_in = SimpleNamespace(
        NVMLError_NotSupported=Unsupported,
        NVMLError_NoPermission=PermissionError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=answers("energy", 123_456),
        nvmlDeviceGetMemoryInfo=answers("memory", SimpleNamespace(used=7 * 2**30)),
        nvmlDeviceGetCurrentClocksThrottleReasons=answers("reasons", 0),
        nvmlDeviceGetPowerUsage=answers("power", 550_000),
        nvmlDeviceGetClockInfo=answers("clock", 1980),
        nvmlDeviceGetTemperature=answers("temperature", 51),
        nvmlDeviceGetComputeRunningProcesses=answers("processes", [SimpleNamespace(pid=p) for p in (1, 2**22 + 1)]),
    )
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return lacking


def test_nvml_counts_energy_memory_and_strangers(nvml):
    telemetry = NvmlTelemetry("GPU-0", root_pid=2**22 + 1)
    assert telemetry.energy_j() == pytest.approx(123.456)
    assert telemetry.memory_bytes() == 7 * 2**30
    assert telemetry.read().foreign_processes == 1
    assert telemetry.read().power_w == 550


def test_what_nvml_does_not_tell_is_none(nvml):
    nvml |= {"energy", "memory", "processes"}
    telemetry = NvmlTelemetry("GPU-0")
    assert (telemetry.energy_j(), telemetry.memory_bytes(), telemetry.read().foreign_processes) == (None, None, 0)
