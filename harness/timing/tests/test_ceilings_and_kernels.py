"""Ceilings are what memory and the units reach; a kernel is timed cold, and only when it agrees with its twin."""

import math
import time

import pytest
import torch

from harness.errors import UserError
from harness.spec.kernel import Cost, Kernel, OpCase
from harness.timing.buffers import copies_of
from harness.timing.kernel_times import COLD_FACTOR, MOST_COPIES, _looped, copies_needed, time_kernel, time_kernels
from harness.timing.roofline import ceilings
from harness.timing.same_work import KernelDisagreement, agreement_limit, require_agreement, require_replayed

CPU = torch.device("cpu")
MIB = 2**20


def doubled(x):
    return {"y": x * 2}


def kernel(launch, eager=doubled, **more):
    def bench(dtype, device, generator):
        yield OpCase("large", {"x": torch.randn(64 * MIB, dtype=dtype, device=device, generator=generator)})

    def cost(x):
        return Cost(2 * x.nbytes, x.numel())

    return Kernel("double", launch, eager, bench, cost, lambda dtype: (), bench=bench, **more)


def inputs(dtype=torch.float32):
    return {"x": torch.linspace(-1, 1, 100, dtype=dtype)}


def test_cpu_ceilings_are_plausible_and_quick():
    start = time.monotonic()
    found = ceilings(CPU, torch.float32)
    assert time.monotonic() - start < 10
    assert found.matmul_dtype == "float32"
    assert 1e8 < found.copy_bytes_per_s < 1e13
    assert 1e8 < found.read_bytes_per_s < 1e13
    assert 1e8 < found.matmul_flops_per_s < 1e14


def test_enough_copies_overflow_the_cache():
    assert copies_needed(20 * MIB, 60 * MIB, 100_000 * MIB) * 20 >= COLD_FACTOR * 60
    assert copies_needed(1000 * MIB, 60 * MIB, 100_000 * MIB) == 4
    assert copies_needed(1, 60 * MIB, 100_000 * MIB) == MOST_COPIES
    assert copies_needed(1000 * MIB, 60 * MIB, 8_000 * MIB) == 2
    assert copies_needed(1000 * MIB, 60 * MIB, 0) == 1


def test_copies_share_no_memory():
    pair = {"x": torch.ones(3), "caches": (torch.zeros(2), torch.zeros(2)), "eps": 1e-6}
    first, second = copies_of(pair, 2)
    first["x"].zero_()
    first["caches"][1].add_(1)
    assert second["x"].sum() == 3
    assert second["caches"][1].sum() == 0
    assert second["eps"] == 1e-6


def test_agreeing_kernels_pass():
    require_agreement(kernel(lambda x: {"y": (x.double() * 2.00001).float()}), inputs(), "k")


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        (lambda x: {"y": x * 2.01}, "differs from the twin's by 0.005"),
        (lambda x: {"y": (x * 2).double()}, "differs"),
        (lambda x: {"y": x[:-1] * 2}, "differs"),
        (lambda x: {"y": x * math.nan}, "differs"),
        (lambda x: {"z": x * 2}, "outputs"),
    ],
    ids=["wrong value", "wrong dtype", "wrong shape", "not a number", "wrong name"],
)
def test_a_kernel_that_disagrees_is_not_timed(launch, words):
    with pytest.raises(KernelDisagreement, match=words):
        require_agreement(kernel(launch), inputs(), "kernel double, case large")


def test_moved_bits_must_be_equal():
    moved = kernel(doubled, bitwise_outputs=("y",))
    assert agreement_limit(moved, "y", torch.bfloat16) == 0
    assert agreement_limit(kernel(doubled), "y", torch.bfloat16) > 0
    assert agreement_limit(kernel(doubled), "ids", torch.int64) == 0


def test_an_input_written_in_place_is_put_back():
    def in_place(x):
        return {"x": x.mul_(2)}

    given = inputs()
    require_agreement(kernel(in_place, in_place, mutates=("x",)), given, "k")
    assert torch.equal(given["x"], inputs()["x"])


def replayed(launch, copies=3):
    """What is timed of a kernel, launched from the host, and judged again after its samples."""
    timed = kernel(launch)
    given = copies_of(inputs(), copies)
    loop = _looped(launch, timed, inputs(), given)
    loop.replay()
    require_replayed(timed, loop, given[-1], "kernel double, case large")


def test_a_kernel_that_still_computes_keeps_its_time():
    replayed(doubled)


@pytest.mark.parametrize("copies", [1, 3])
def test_a_kernel_that_became_a_no_op_has_no_time(copies):
    answers = []

    def launch(x):
        if len(answers) < 2 * copies:
            answers.append(doubled(x))
        return answers[-1]

    with pytest.raises(KernelDisagreement, match="after timing and on rewritten inputs: output y differs"):
        replayed(launch, copies)


def test_interpreted_time_is_never_a_speed():
    with pytest.raises(UserError, match="cannot be timed on cpu"):
        time_kernel(kernel(doubled), OpCase("small", inputs()), CPU)


def test_a_kernel_without_real_shapes_is_passed_over():
    silent = Kernel("k", doubled, doubled, lambda *_: iter(()), lambda x: Cost(0, 0), lambda dtype: ())
    assert time_kernels([silent], torch.float32, CPU, 0) == ()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnAGpu:
    device = torch.device("cuda:0")

    def test_a_copying_kernel_reaches_the_copy_ceiling_and_no_more(self):
        (found,) = time_kernels([kernel(doubled)], torch.bfloat16, self.device, 0)
        ceiling = ceilings(self.device, torch.bfloat16)
        assert found.from_host is found.twin_from_host is None
        assert found.low_ms <= found.median_ms <= found.high_ms < 1.1 * found.low_ms
        assert found.twin_ms == pytest.approx(found.median_ms, rel=0.05)
        assert found.hot_low_ms <= found.hot_ms <= found.hot_high_ms
        assert found.written_bytes == found.bytes // 2
        assert 0.6 < found.bytes / found.median_ms * 1e3 / ceiling.copy_bytes_per_s < 1.1

    def test_inputs_that_a_cache_holds_are_read_faster_hot(self):
        case = OpCase("small", {"x": torch.randn(8 * MIB // 4, device=self.device)})
        found = time_kernel(kernel(doubled), case, self.device)
        assert found.hot_ms < found.median_ms

    def test_the_reading_kernel_reads_every_element(self):
        from harness.timing.read_kernel import CHUNK_BYTES, read_all

        source = torch.randint(-1000, 1000, (5, CHUNK_BYTES // 4), dtype=torch.int32, device=self.device)
        sums = torch.zeros(5, dtype=torch.int32, device=self.device)
        read_all(source.view(-1), sums)
        assert torch.equal(sums, source.sum(1, dtype=torch.int32))

    def test_a_launch_that_waits_for_the_device_is_timed_from_the_host_and_says_so(self):
        case = OpCase("small", {"x": torch.ones(MIB, device=self.device)})
        found = time_kernel(kernel(lambda x: {"y": x * int(x[0].item() + 1)}), case, self.device)
        assert "capture" in found.from_host
        assert found.twin_from_host is None

    def test_events_and_telemetry_tell_of_a_real_gpu(self):
        from harness.machine.hardware import probe
        from harness.timing.clock import CudaClock
        from harness.timing.sentinel import sentinel
        from harness.timing.telemetry import telemetry_for

        reading = CudaClock(self.device).measure(sentinel(self.device))
        state = telemetry_for(self.device).read()
        assert 0 < reading.device_ms <= reading.wall_ms
        assert state.sm_clock_mhz > 100
        assert state.foreign_processes == 0
        assert probe().gpu_count == torch.cuda.device_count()
