"""A build that answers from memory has no speed: on inputs that are new in every round it cannot know the answer, and
what it gives anyway is judged."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from weakref import WeakKeyDictionary

import pytest
import torch
from torch import Tensor

from harness.build import builder, registry
from harness.errors import HarnessError
from harness.records.case import Case
from harness.spec.optimization import Menu, Optimization, Receipt, Target
from harness.timing.case_timing import Timing, time_case
from models.common.cache.kv_cache import KVCache, Slots
from models.common.decoder.frame import Decoder

SPEC = registry.load("qwen3_4b_instruct_2507")
CPU = Target(torch.device("cpu"), torch.float32, "none")
Text = tuple[tuple[int, ...], ...]
Key = Callable[[Text, int, Tensor], Hashable]
"""(the text before a call, where the call begins, its tokens) -> what an answer is remembered by."""


class Remembering:
    """Computes what it has not seen."""

    def __init__(self, compute: Callable[..., Tensor], key: Key) -> None:
        self.compute, self.key = compute, key
        self.texts: WeakKeyDictionary[KVCache, Text] = WeakKeyDictionary()
        self.answers: dict[Hashable, Tensor] = {}

    def __call__(self, tokens: Tensor, slots: Slots, cache: KVCache, keep: int) -> Tensor:
        start = cache.length - slots.tokens
        before = tuple(row[:start] for row in self.texts.get(cache, ((),) * len(tokens)))
        known = self.key(before, start, tokens)
        self.texts[cache] = tuple((*row, *new) for row, new in zip(before, tokens.tolist(), strict=True))
        if known not in self.answers:
            self.answers[known] = self.compute(tokens, slots, cache, keep).clone()
        return self.answers[known]


KEYS: dict[str, Key] = {
    "the whole text": lambda before, _, tokens: (before, str(tokens.tolist())),
    "slot and token": lambda _, start, tokens: (start, str(tokens.tolist())),
    "slot and shape": lambda _, start, tokens: (start, tuple(tokens.shape)),
}


def timed(case: Case, key: Key | None, new_tokens: int = 2) -> Timing:
    def apply(model: Decoder, target: Target) -> Receipt:
        if key is not None:
            model.compute = Remembering(model.compute, key)  # type: ignore[method-assign]
        return Receipt("memory", ("compute",))

    memory = Optimization("memory", "answers that were given before", "exact", apply)
    menu = Menu((*SPEC.menu.items, memory), SPEC.menu.full)
    spec = replace(SPEC, menu=menu)
    brief = case.timing.model_copy(update={"limit_s": 20.0, "min_blocks": 3, "max_blocks": 3})
    shape = case.workload.model_copy(update={"prompt_tokens": 16, "new_tokens": new_tokens, "dtype": "float32"})
    stack = ("kv_cache", "memory")
    asked = case.model_copy(update={"timing": brief, "workload": shape, "arms": ("reference",), "optimizations": stack})
    config = builder.BuildConfig(spec, builder.Source.of(spec, "tiny", 0, None), stack, CPU)
    return time_case(asked, config, 0, False, lambda _, __: None)


@pytest.fixture
def case(make_case: Callable[..., Case]) -> Case:
    return make_case(model=SPEC.name)


@pytest.mark.parametrize("new_tokens", [0, 2], ids=["prefill", "decode"])
def test_a_build_that_computes_is_timed(case: Case, new_tokens: int) -> None:
    timing = timed(case, None, new_tokens)
    assert {series.arm for series in timing.series} == {"reference", "candidate", "again"}
    assert {arm.judged_blocks for arm in timing.arms} == {3 * len({series.phase for series in timing.series})}


@pytest.mark.parametrize(
    ("known_by", "says"),
    [
        ("the whole text", "asked again what it was asked before, it answers"),
        ("slot and token", "asked again what it was asked before, it answers"),
        ("slot and shape", "rewritten inputs gave the timed prefill output again|asked again"),
    ],
)
def test_one_that_remembers_is_refused(case: Case, known_by: str, says: str) -> None:
    with pytest.raises(HarnessError, match=f"candidate: {says}"):
        timed(case, KEYS[known_by])
