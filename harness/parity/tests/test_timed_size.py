"""The model is judged at the size that is timed, and on both sides of every edge that the size reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from harness.build import builder, registry
from harness.errors import HarnessError
from harness.parity.parity_run import ParityRun
from harness.parity.paths.timed_size import check_edge, check_timed_size, reached
from harness.records.checks import Check
from harness.records.proof_size import ProofSize, TimedSize
from harness.spec.kernel import Compilation, Cost, Kernel
from harness.spec.model import ModelSpec
from harness.spec.optimization import Edges, KernelMode, Menu, Optimization, Receipt, Target
from models.common.cache.kv_cache import KVCache, Slots
from models.common.decoder.frame import Decoder
from models.common.linear.gemv import MAX_ROWS, block_rows, row_edges

DENSE, SPARSE = (registry.load(name) for name in ("qwen3_4b_instruct_2507", "qwen3_coder_30b"))
SIZE = TimedSize(batch=2, prompt_tokens=20, steps=3, shared=8)


def _mark(target, BLOCK: tl.constexpr):
    at = target + tl.arange(0, BLOCK)
    tl.store(at, tl.load(at) * 2)


mark = InterpretedFunction(_mark)
MARK = Kernel("mark", dict, dict, lambda *_: iter(()), lambda: Cost(0, 0), lambda dtype: (Compilation(mark, {}, {}),))


def run_of(spec: ModelSpec, *stack: str, kernels: KernelMode = "none") -> ParityRun:
    target = Target(torch.device("cpu"), torch.float32, kernels)
    return ParityRun(
        builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), stack, target), ProofSize(2, 8, 2)
    )


def extended(item: Optimization) -> ModelSpec:
    return replace(DENSE, menu=Menu((*DENSE.menu.items, item), DENSE.menu.full))


def subjects(made: Iterable[list[Check]]) -> Mapping[str, bool]:
    return {check.subject: check.passed for checks in made for check in checks}


@pytest.mark.parametrize("spec", [DENSE, SPARSE], ids=lambda spec: spec.name)
@torch.no_grad()
def test_a_right_build_is_right_at_the_timed_size(spec: ModelSpec) -> None:
    checks = check_timed_size(run_of(spec, "kv_cache", "prefix_caching"), SIZE)
    assert subjects(checks) == {"timed size": True, "timed size behind a shared prefix": True}


@torch.no_grad()
def test_what_is_wrong_in_late_slots_alone_is_refused() -> None:
    def apply(model: Decoder, target: Target) -> Receipt:
        right = model.compute

        def compute(tokens: Tensor, slots: Slots, cache: KVCache, keep: int) -> Tensor:
            logits = right(tokens, slots, cache, keep)
            return logits.roll(1, -1) if cache.length > 22 else logits

        model.compute = compute  # type: ignore[method-assign]
        return Receipt("late", ("compute",))

    late = Optimization("late", "wrong from slot 22 on", "exact", apply)
    run = run_of(extended(late), "kv_cache", "late")
    assert subjects(check_timed_size(run, replace(SIZE, shared=0, steps=2))) == {"timed size": True}
    assert subjects(check_timed_size(run, replace(SIZE, shared=0))) == {"timed size": False}


def marking(edges: Edges) -> Optimization:
    """Launches another kernel beside each step of more than one row."""

    def apply(model: Decoder, target: Target) -> Receipt:
        right = model.decode

        def decode(tokens: Tensor, cache: KVCache) -> Tensor:
            mark[(len(tokens),)](torch.ones(8), BLOCK=4 if len(tokens) == 1 else 8)
            return right(tokens, cache)

        model.decode = decode  # type: ignore[method-assign]
        return Receipt("marking", ("decode",))

    return Optimization("marking", "marks", "exact", apply, kernels=(MARK,), edges=lambda: edges)


@torch.no_grad()
def test_both_sides_of_an_edge_are_judged() -> None:
    run = run_of(extended(marking({"rows": (1,)})), "kv_cache", "marking", kernels="interpreted")
    sides = ("1 rows, by an edge of marking", "2 rows, by an edge of marking")
    assert subjects(check_timed_size(run, SIZE)) == {"timed size": True, **dict.fromkeys(sides, True)}


@pytest.mark.parametrize(("edges", "said"), [({"rows": (2,)}, "2 rows"), ({"keys": (16,)}, "16 keys")])
@torch.no_grad()
def test_an_edge_at_which_nothing_changes_is_an_error(edges: Edges, said: str) -> None:
    item = marking(edges)
    run = run_of(extended(item), "kv_cache", "marking", kernels="interpreted")
    ((axis, edge),) = reached(item, SIZE)
    with pytest.raises(HarnessError, match=f"optimization 'marking' declares an edge at {said}"):
        check_edge(run, item, axis, edge)


def test_edges_beyond_the_timed_size_are_not_visited() -> None:
    item = marking({"rows": (1, 2, 3), "keys": (16, 23, 24)})
    assert list(reached(item, SIZE)) == [("rows", 1), ("rows", 2), ("keys", 16), ("keys", 23)]
    assert list(reached(item, replace(SIZE, steps=0))) == []


@pytest.mark.parametrize(
    ("spec", "name", "told", "edges"),
    [
        (DENSE, "linear", {"linear.rows": 40}, {"rows": (1, 16, 32, 40)}),
        (DENSE, "cuda_kernels", {"cuda_kernels.rows": 4, "cuda_kernels.keys": 512}, {"rows": (4,), "keys": (512,)}),
        (SPARSE, "experts", {"experts.tile_max_tokens": 32}, {"rows": (Any, 32)}),
    ],
    ids=["linear", "cuda_kernels", "experts"],
)
def test_edges_follow_the_parameters(spec: ModelSpec, name: str, told: dict[str, int], edges: dict[str, Any]) -> None:
    item = spec.made_with(told).menu[name]
    assert item.edges is not None
    found = item.edges()
    assert found.keys() == edges.keys()
    assert all(want in (Any, has) for axis in edges for want, has in zip(edges[axis], found[axis], strict=True))


def test_every_change_of_the_matrix_loop_is_an_edge() -> None:
    sizes = [block_rows(m) for m in range(2, MAX_ROWS + 1)]
    changes = [m for m, (one, more) in enumerate(pairwise(sizes), 2) if one != more]
    assert row_edges(MAX_ROWS) == (1, *changes, MAX_ROWS)
