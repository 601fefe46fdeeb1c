"""Launches are named so that two of one name run the same code over about as many programs."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from harness.parity.kernels.dispatches import dispatched, grid_class
from harness.spec.kernel import Cost, Kernel


def _double(source, target, n, BLOCK: tl.constexpr, EVEN: tl.constexpr = False):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + at, tl.load(source + at, mask=at < n) * 2, mask=at < n)


double = InterpretedFunction(_double)


def launched(n: int, block: int, dtype: torch.dtype = torch.float32, **options: int) -> tuple[str, ...]:
    source = torch.ones(n, dtype=dtype)
    target = torch.empty_like(source)
    with dispatched(()) as found:
        double[(triton.cdiv(n, block),)](source, target, n, BLOCK=block, **options)
    assert torch.equal(target, source * 2)
    return found.names()


def test_a_launch_is_named_by_all_that_decides_its_code() -> None:
    assert launched(48, 16, num_warps=4) == (
        "test_dispatches._double(float32 float32; BLOCK=16 EVEN=False; num_warps=4; grid 4x1x1)",
    )


@pytest.mark.parametrize(
    "other",
    [(48, 8), (48, 16, torch.float16), (80, 16), (16, 16)],
    ids=["compile-time value", "element type", "more programs", "one program"],
)
def test_other_code_or_another_class_of_grid_has_another_name(other: tuple[int, ...]) -> None:
    assert launched(48, 16) != launched(*other)
    assert launched(48, 16) == launched(64, 16)


def test_a_launch_option_that_changes_code_is_in_the_name() -> None:
    assert launched(48, 16, num_warps=2) != launched(48, 16, num_warps=4) != launched(48, 16)


def test_a_grid_that_is_a_function_is_asked() -> None:
    source = torch.ones(48)
    with dispatched(()) as found:
        double[lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]),)](source, source.clone(), 48, BLOCK=16)
    assert found.names() == launched(48, 16)


def test_nothing_is_seen_before_or_after() -> None:
    launched(48, 16)
    with dispatched(()) as found:
        pass
    launched(48, 16)
    assert found.names() == ()


@pytest.mark.parametrize(
    ("grid", "name"), [((1,), "1x1x1"), ((3, 5), "4x8x1"), ((128, 129, 1), "128xmanyx1"), ((4096,), "manyx1x1")]
)
def test_classes_of_grids(grid: tuple[int, ...], name: str) -> None:
    assert grid_class(grid) == name


def test_a_kernel_of_another_language_counts_its_own_launches() -> None:
    count = [7]
    kernel = Kernel(
        "cluster", dict, dict, lambda *_: iter(()), lambda: Cost(0, 0), lambda dtype: (), launches=lambda: count[0]
    )
    with dispatched((kernel,)) as idle:
        pass
    with dispatched((kernel,)) as busy:
        count[0] += 1
    assert (idle.names(), busy.names()) == ((), ("cluster",))
