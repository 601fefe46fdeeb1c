from __future__ import annotations

import pytest

from harness.tune.launch_shapes import candidates, report, works
from harness.tune.sweep_shapes import PRODUCTS, Attention, early_starts
from models.common.linear.gemv import prefetch_fits


@pytest.mark.parametrize("work", list(works()), ids=lambda work: f"{work[0].name} {work[1]}")
def test_every_job_has_a_menu_of_distinct_launchable_shapes(work: tuple) -> None:
    what, m = work
    shapes = candidates(what, m)
    assert 15 <= len(shapes) <= 64
    assert len(set(shapes)) == len(shapes)
    if isinstance(what, Attention):
        assert all(what.length % shape.block_n == 0 for shape in shapes)
    elif m == 1:
        assert all(shape.split_k == 1 for shape in shapes)


def test_early_starts_never_prefetch_past_the_rows() -> None:
    for work in PRODUCTS:
        for shape in candidates(work, 8):
            early = list(early_starts(shape, work))
            assert any(shape.pdl for shape in early)
            assert all(prefetch_fits(shape, work.outputs, work.k) for shape in early)


def test_a_report_line_gives_the_best_shape_and_counts_failures() -> None:
    shape = {"block_n": 4, "pdl": False, "ahead": 0}
    rows = [
        {"job": "o M1", "shape": "torch", "us": 20.0, "bytes": 1},
        {"job": "o M1", "shape": shape, "us": 12.0, "bytes": 24_000_000},
        {"job": "o M1", "shape": shape | {"pdl": True}, "us": 10.0, "bytes": 24_000_000},
        {"job": "o M1", "shape": shape, "error": "OutOfResources: shared memory", "bytes": 24_000_000},
    ]
    line = report("o M1", rows, 4e12)
    assert "10.00 us   60.0% of read" in line
    assert "without pdl    12.00 us" in line
    assert "torch    20.00 us" in line
    assert "1 failed, first: OutOfResources" in line
    assert "nothing ran" in report("o M1", rows[:1], 4e12)
