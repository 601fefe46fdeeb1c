"""How often the op level refuses a kernel over seeds of its menu, and what that says of a calibration."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from harness.build.dtypes import dtype_name
from harness.parity.calibration_runs import Share, kernel_alarms
from harness.parity.kernels.kernel_checks import check_kernel
from harness.records.calibration import Calibration, KernelAlarms
from harness.records.record import Environment
from harness.spec.kernel import Cost, Kernel, OpCase

CPU = torch.device("cpu")
SEEDS = range(4)


def doubled(x: Tensor) -> dict[str, Tensor]:
    return {"y": x * 2}


def wrong_on_odd_rows(x: Tensor) -> dict[str, Tensor]:
    return {"y": x * (2.5 if x.shape[0] % 2 else 2)}


def menu(dtype, device, generator):
    rows = int(torch.randint(1, 20, (), generator=generator))
    yield OpCase(f"{rows} rows", {"x": torch.randn(rows, 8, dtype=dtype, generator=generator)})


def alarms(launch, asked, **fields) -> list[KernelAlarms]:
    made = Kernel("made", launch, doubled, menu, lambda **_: Cost(0, 0), lambda _: (), bitwise_outputs=("y",), **fields)
    judged = (
        (Share("m", made.name, dtype_name(dtype), "cpu", seed), check_kernel(made, dtype, CPU, seed))
        for dtype in filter(made.computes, asked)
        for seed in SEEDS
    )
    return list(kernel_alarms(judged))


def calibration(*kernels: KernelAlarms) -> Calibration:
    machine = Environment(
        commit="c" * 40, dirty=False, diff_hash=None, command=("python",), python="3.11", platform="linux",
        packages={}, cpu="c", cpu_cores=2, memory_bytes=1,
    )  # fmt: skip
    return Calibration(
        environment=machine, model="m", size="tiny", device="cpu", seeds=tuple(SEEDS), rules=(), kernels=kernels
    )


def test_a_right_kernel_is_never_refused_in_any_type_that_it_computes() -> None:
    found = alarms(doubled, (torch.float32, torch.float16), dtypes=(torch.float16,))
    assert [(one.dtype, one.refused, one.where) for one in found] == [("float16", 0, ())]
    assert found[0].n >= 2 * len(SEEDS)


def test_refusals_are_counted_over_the_shapes_that_the_seeds_draw_and_named() -> None:
    (found,) = alarms(wrong_on_odd_rows, (torch.float32,))
    told = [re.match(r"seed (\d), (\d+) rows.*: exact \(0, ", where) for where in found.where]
    assert 0 < found.refused < found.n
    assert len(told) == found.refused
    assert all(where is not None and int(where[1]) in SEEDS and int(where[2]) % 2 for where in told)


@pytest.mark.parametrize(
    ("dtype", "refused", "holds"), [("float32", 1, True), ("float32", 2, False), ("bfloat16", 1, False)]
)
def test_one_check_in_a_thousand_may_be_refused_in_float32_and_none_in_the_half_types(dtype, refused, holds) -> None:
    kernels = [
        KernelAlarms(kernel="a", dtype=dtype, n=600, refused=refused, where=("x",) * refused),
        KernelAlarms(kernel="b", dtype=dtype, n=500, refused=0, where=()),
    ]
    assert calibration(*kernels).holds is holds
