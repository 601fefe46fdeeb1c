"""The one-launch sum over ranks: what it refuses anywhere, its twin, and on a GPU that it is right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.faults.kernel_faults import judge_kernel
from harness.parity.kernels.kernel_checks import check_kernel
from models.common.parallel import one_shot_all_reduce
from models.common.parallel.joins import sum_parts
from models.common.parallel.one_shot_all_reduce import TYPES, Inbox
from models.common.parallel.one_shot_all_reduce_cases import ONE_SHOT_ALL_REDUCE

CPU = torch.device("cpu")
PARTS = torch.zeros(2, 3, 8)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parts": PARTS.half(), "dtype": torch.bfloat16}, "not this kernel.s"),
        ({"parts": PARTS.double(), "dtype": torch.float64}, "not this kernel.s"),
        ({"parts": torch.zeros(2, 8, 3).transpose(1, 2)}, "side by side"),
        ({"inbox": Inbox.alone(4, 24, CPU)}, "parts of 2 ranks, an inbox of 4"),
        ({"inbox": Inbox.alone(2, 23, CPU)}, "a part of 24 words, an inbox of 23"),
    ],
    ids=["two half types", "float64", "strided rows", "ranks missing", "no room"],
)
def test_a_call_that_would_be_wrong_or_never_end_is_refused_before_anything_is_compiled(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        one_shot_all_reduce.launch(**{"parts": PARTS, "dtype": torch.float32, **changes})


def test_an_odd_number_of_halves_takes_a_word_more() -> None:
    assert [one_shot_all_reduce.words_of(torch.zeros(1, n).half()) for n in (1, 2, 3)] == [1, 1, 2]
    assert one_shot_all_reduce.words_of(torch.zeros(2, 3)) == 6


def test_the_twin_rounds_once_and_gives_every_rank_the_same() -> None:
    parts = torch.tensor([[[1.0]], [[2.0**-8]], [[2.0**-8]]])
    assert sum_parts(parts, torch.bfloat16)["out"].tolist() == [[[1 + 2.0**-7]]] * 3
    assert sum_parts(parts.double(), torch.bfloat16)["out"].dtype == torch.float64


def test_every_fault_planted_around_its_twin_is_seen() -> None:
    kernel = replace(ONE_SHOT_ALL_REDUCE, launch=sum_parts, shared_workspace=None)
    found = list(judge_kernel(kernel, (torch.float32, torch.bfloat16), CPU, seed=0))
    assert len(found) > 30
    assert [item.name for item in found if item.end not in ("killed", "crash")] == []


def test_nvcc_compiles_it_without_spilling_a_register(compiled: Callable[[Path], str]) -> None:
    said = compiled(one_shot_all_reduce.SOURCE)
    assert said.count("0 bytes spill stores, 0 bytes spill loads") == 5, said


@pytest.mark.skipif(
    not torch.cuda.is_available() or shutil.which("nvcc") is None,
    reason="needs a GPU and nvcc; the records of tensor parallel on two H200s hold its checks",
)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_it_is_right_on_its_whole_menu(dtype: torch.dtype) -> None:
    checks = check_kernel(ONE_SHOT_ALL_REDUCE, dtype, torch.device("cuda"), 0)
    failed = [f"{check.name}: {check.rule} {check.error} > {check.limit}" for check in checks if not check.passed]
    assert len(checks) > 20
    assert not failed, failed
