"""Kernels, and faults, judged beside each other, a process a core: most of the time goes into compiling or interpreting
kernels."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

import torch

from harness.parity.reference.attention_backends import exact_convolutions

Asked = TypeVar("Asked", bound=Hashable)
Found = TypeVar("Found")


def side_by_side(
    judge: Callable[[Asked], Found], asked: Sequence[Asked], processes: int
) -> Iterator[tuple[Asked, Found]]:
    """What `judge` finds of each, as it is ready; in this process where there is one core or one thing to judge.
    `processes` at most: on a GPU each holds a context."""
    workers = min(len(asked), len(os.sched_getaffinity(0)), processes)
    if workers < 2:
        yield from ((one, judge(one)) for one in asked)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _alone) as pool:
        pending = {pool.submit(judge, one): one for one in asked}
        for done in as_completed(pending):
            yield pending[done], done.result()


def _alone() -> None:
    """On one core, for others are busy with what is beside it."""
    torch.set_num_threads(1)
    exact_convolutions()
