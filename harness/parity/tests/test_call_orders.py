"""Calls in any order say what the reference says from scratch; a cache that remembers wrongly is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.build import builder, registry
from harness.parity.parity_run import ParityRun
from harness.parity.paths.call_orders import STEPS, WALKS, Walk
from harness.parity.paths.call_plan import Planner, Step, longest
from harness.records.checks import Check
from harness.records.proof_size import ProofSize
from harness.spec.optimization import Target
from models.common.cache.kv_cache import KVCache, Slots
from models.common.cache.prefixes import Prefixes, SharedCache

CPU = Target(torch.device("cpu"), torch.float32, "none")
TOKENS, PAGE_TOKENS = 24, 4


@pytest.fixture(scope="module")
def run() -> ParityRun:
    spec = registry.load("qwen3_4b_instruct_2507")
    source = builder.Source.of(spec, "tiny", 0, None)
    stack = ("kv_cache_paged", "prefix_caching")
    return ParityRun(builder.BuildConfig(spec, source, stack, CPU), ProofSize(1, 8, 2))


def walk(run: ParityRun, steps: list[Step]) -> list[Check]:
    walked = Walk(run.model, run.oracle.answers(longest(steps)), torch.device("cpu"), None)
    with torch.no_grad():
        return walked.judged(steps)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.parity.paths.call_orders.PAGE_TOKENS", PAGE_TOKENS)


def planned(run: ParityRun, choose: Callable[[int, int], int], count: int) -> list[Step]:
    return Planner(run.oracle.streams(TOKENS).tolist(), choose, pools=True).steps(count)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_any_order_of_calls_is_answered_as_from_scratch(run: ParityRun, data: st.DataObject) -> None:
    steps = planned(run, lambda low, high: data.draw(st.integers(low, high)), 12)
    assert [check.where for check in walk(run, steps) if not check.passed] == [], [step.told() for step in steps]


def names_survive_a_rewind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedCache, "rewind", lambda self, length: KVCache.rewind(self, length))


def padding_is_masked_in_prompts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    right = KVCache.claim

    def claim(self: KVCache, tokens: int) -> Slots:
        slots = right(self, tokens)
        late = self.length > tokens and self.padded
        return replace(slots, left_padding=torch.zeros_like(slots.left_padding)) if late else slots

    monkeypatch.setattr(KVCache, "claim", claim)


def positions_of_the_first_cache_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a table would that is indexed by shape alone, where two batches of one shape are open beside each other."""
    right, kept = Slots.positions, dict[tuple[int, int], torch.Tensor]()

    def positions(self: Any) -> torch.Tensor:
        if self.tokens > 1:
            return right(self)
        shift = kept.setdefault((len(self.seq_lens), self.max_len), self.left_padding.clone())
        return (self.slots - shift.long().unsqueeze(1)).clamp_min(0)

    monkeypatch.setattr(Slots, "positions", positions)


def what_was_generated_is_named_after_the_wrong_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Prefixes.close

    def close(self: Prefixes, cache: SharedCache, generated: torch.Tensor | None = None) -> None:
        right(self, cache, None if generated is None else generated.roll(1, 1))

    monkeypatch.setattr(Prefixes, "close", close)


def a_shared_tail_is_written_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Prefixes, "_copy_tails", lambda self, leases: None)


FAULTS = (
    names_survive_a_rewind,
    padding_is_masked_in_prompts_alone,
    positions_of_the_first_cache_are_kept,
    what_was_generated_is_named_after_the_wrong_slot,
    a_shared_tail_is_written_in_place,
)


@pytest.mark.parametrize("plant", FAULTS)
def test_a_cache_that_remembers_wrongly_is_refused_within_the_walks_of_a_proof(
    run: ParityRun, plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    refused = []
    for seed in range(WALKS["compiled"]):
        broken = [check for check in walk(run, planned(run, random.Random(seed).randint, STEPS)) if not check.passed]
        refused.append(bool(broken))
    assert any(refused)


def test_the_place_is_told_by_the_shortest_walk_that_is_wrong(run: ParityRun, monkeypatch: pytest.MonkeyPatch) -> None:
    padding_is_masked_in_prompts_alone(monkeypatch)
    steps = planned(run, random.Random(0).randint, STEPS)
    walked = Walk(run.model, run.oracle.answers(longest(steps)), torch.device("cpu"), None)
    with torch.no_grad():
        shortest = walked.shortest(steps)
    assert len(shortest) < len(steps)
    assert shortest[-1].does in ("decode", "chunk")
