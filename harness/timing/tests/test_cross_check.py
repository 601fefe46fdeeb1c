"""Other timers beside ours: what counts as agreement, what explains a difference, and on a GPU that it holds."""

import io
import json

import pytest
import torch

from harness.commands import timers
from harness.commands.main import main
from harness.errors import HarnessError, UserError
from harness.records.record import Environment
from harness.spec.kernel import Cost, Kernel, OpCase
from harness.timing.cross_check import (
    KERNELS,
    NVBENCH,
    Agreement,
    Bounds,
    CrossCheck,
    Reading,
    cold_ms,
    compare_timers,
    costliest,
)

BOUNDS = Bounds(pair_ms=0.004, dirty_ms=0.012)
CPU = torch.device("cpu")
MODEL = "qwen3_4b_instruct_2507"


def agreement(ours_ms, *others):
    return Agreement(kernel="k", case="c", ours_ms=ours_ms, others=others)


def made(*agreements):
    machine = Environment(
        commit="c" * 40, dirty=False, diff_hash=None, command=("python",), python="3.11", platform="linux",
        packages={}, cpu="c", cpu_cores=2, memory_bytes=1,
    )  # fmt: skip
    return CrossCheck(environment=machine, model="m", dtype="bfloat16", seed=0, bounds=BOUNDS, agreements=agreements)


@pytest.mark.parametrize(
    ("ours_ms", "theirs_ms", "reason"),
    [
        (1.0, 1.019, "agrees"),
        (1.0, 0.981, "agrees"),
        (1.0, 1.03, "event pair"),
        (0.02, 0.035, "event pair"),
        (0.02, 0.037, None),
        (1.0, 1.04, None),
        (1.0, 0.97, None),
    ],
)
def test_a_difference_is_small_or_within_what_was_measured(ours_ms, theirs_ms, reason):
    other = Reading(timer="do_bench", median_ms=theirs_ms)
    found = agreement(ours_ms, other).reason(other, BOUNDS)
    assert found is None if reason is None else found.startswith(reason)
    assert made(*[agreement(ours_ms, other)] * KERNELS).holds == (reason is not None)


def test_only_nvbench_may_be_absent_and_only_with_its_reason():
    read = Reading(timer="do_bench", median_ms=1.0)
    absent = Reading(timer=NVBENCH, absent="cuda-bench is not installed")
    assert made(*[agreement(1.0, read, absent)] * KERNELS).holds
    assert not made(*[agreement(1.0, Reading(timer="do_bench", absent="broken"))] * KERNELS).holds
    assert not made(*[agreement(1.0, read)] * (KERNELS - 1)).holds


def test_the_outcome_is_told_line_by_line():
    out = io.StringIO()
    rows = (Reading(timer="do_bench", median_ms=1.5), Reading(timer=NVBENCH, absent="cuda-bench is not installed"))
    timers.tell(made(*[agreement(1.0, *rows)] * KERNELS), out)
    lines = out.getvalue().splitlines()
    assert lines[1:3] == [
        "  do_bench: 1.5 ms, +50.0%: NOT EXPLAINED",
        "  NVBench: not read: cuda-bench is not installed",
    ]
    assert lines[-1] == "timers differ without a reason"


def nvbench_json(*readings):
    return json.dumps(
        {
            "benchmarks": [
                {"name": f"launch_{number}", "states": [{"summaries": [summary(*one) for one in reading.items()]}]}
                for number, reading in enumerate(readings)
            ]
        }
    )


def summary(name, seconds):
    return {"tag": f"nv/cold/time/gpu/{name}", "data": [{"name": "value", "type": "float64", "value": str(seconds)}]}


def test_nvbench_gives_the_median_of_each_benchmark_or_else_its_mean():
    found = cold_ms(nvbench_json({"mean": 0.003, "median": 0.002}, {"mean": 0.003}))
    assert found == pytest.approx({"launch_0": 2.0, "launch_1": 3.0})
    with pytest.raises(HarnessError, match="of launch_1: it timed nothing"):
        cold_ms(nvbench_json({"mean": 0.003}, {}))


def kernel(name, sizes, **more):
    def bench(dtype, device, generator):
        for size in sizes:
            yield OpCase(f"{size}", {"x": torch.zeros(size, dtype=dtype, device=device)})

    def doubled(x):
        return {"y": x * 2}

    return Kernel(
        name, doubled, doubled, lambda *_: iter(()), lambda x: Cost(x.nbytes, 0), lambda _: (), bench=bench, **more
    )


def test_the_costliest_kernels_are_taken_at_their_largest_shape_and_those_that_write_inputs_last():
    many = [kernel(f"k{size}", (size, 2 * size)) for size in (1, 2, 3, 4)]
    writing = kernel("writing", (1000,), mutates=("x",))
    silent = Kernel("s", *[lambda: {}] * 2, lambda *_: iter(()), lambda: Cost(0, 0), lambda _: ())
    chosen = costliest([writing, silent, *many], torch.float32, CPU, 0)
    assert [(one.name, case.name) for one, case in chosen] == [
        ("k4", "8"), ("k3", "6"), ("k2", "4"), ("k1", "2"), ("writing", "1000"),
    ]  # fmt: skip


def test_off_a_gpu_nothing_is_compared(tmp_path):
    with pytest.raises(UserError, match="nothing to compare"):
        compare_timers([kernel("k", (1,))], torch.float32, CPU, 0)
    if not torch.cuda.is_available():
        err = io.StringIO()
        assert main(["timers", f"+model={MODEL}", f"out={tmp_path}"], io.StringIO(), err) == 2
        assert "there is no GPU here" in err.getvalue()
        assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: interpreted kernels have no speed")
def test_our_timer_agrees_with_the_others_on_a_gpu(tmp_path):
    out = io.StringIO()
    code = main(["timers", f"+model={MODEL}", f"out={tmp_path}"], out)
    (path,) = tmp_path.iterdir()
    found = CrossCheck.model_validate_json(path.read_text())
    assert code == 0, out.getvalue()
    assert len(found.agreements) == KERNELS
