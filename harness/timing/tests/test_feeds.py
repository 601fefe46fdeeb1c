"""What arms are fed: new in every round, the same for all arms of a stream, and again the same from the same seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.build import builder, registry
from harness.records.case import Case
from harness.records.record import Phase
from harness.spec.optimization import Target
from harness.timing.feeds import KEPT_PROMPT_TOKENS, Feeds

CPU = Target(torch.device("cpu"), torch.float32, "none")


@pytest.fixture
def make_feeds(make_case: Callable[..., Case]) -> Callable[..., Feeds]:
    def make(process: int = 0, model: str = "qwen3_4b_instruct_2507", **shape: int) -> Feeds:
        case = make_case(model=model, optimizations=())
        case = case.model_copy(update={"workload": case.workload.model_copy(update=shape)})
        spec = registry.load(model)
        source = builder.Source.of(spec, "tiny", 0, None)
        return Feeds(case, builder.BuildConfig(spec, source, (), CPU), process)

    return make


def drawn(feeds: Feeds, phase: Phase, rounds: int, stream: str = "shared") -> list[tuple[bytes, bytes]]:
    """Prompt and token of each round."""
    found = []
    for _ in range(rounds):
        feeds.begin(phase)
        feed = feeds.of(stream)
        assert feeds.of(stream) is feed
        found.append((feed.prompt.tokens.numpy().tobytes(), feed.first.numpy().tobytes()))
    return found


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_round_of_every_stream_and_process_is_new(make_feeds: Callable[..., Feeds], phase: Phase) -> None:
    found = drawn(make_feeds(), phase, 8)
    found += drawn(make_feeds(), phase, 8, "again") + drawn(make_feeds(1), phase, 8)
    assert len({prompt for prompt, _ in found}) == len({token for _, token in found}) == 24
    assert found[:8] == drawn(make_feeds(), phase, 8)


def test_a_long_prompt_stays_for_some_decode_rounds_and_its_token_does_not(make_feeds: Callable[..., Feeds]) -> None:
    long = make_feeds(batch=1, prompt_tokens=3 * KEPT_PROMPT_TOKENS)
    prompts, tokens = zip(*drawn(long, "decode", 6), strict=True)
    assert prompts[0] == prompts[1] == prompts[2] != prompts[3] == prompts[4] == prompts[5]
    assert len(set(tokens)) == 6
    assert len({prompt for prompt, _ in drawn(long, "prefill", 6)}) == 6


def test_a_shared_prefix_stays_and_what_follows_does_not(make_feeds: Callable[..., Feeds]) -> None:
    feeds = make_feeds(prompt_tokens=8, shared_prefix_tokens=8)
    first, second = feeds.prompt("one").tokens, feeds.prompt("two").tokens
    assert torch.equal(first[:, :7], second[:, :7])
    assert not torch.equal(first[:, 7], second[:, 7])


def test_images_are_inputs_too(make_feeds: Callable[..., Feeds]) -> None:
    feeds = make_feeds(model="qwen3_vl_2b", prompt_tokens=48, images=1)
    feeds.begin("prefill")
    first = feeds.of("shared").prompt
    feeds.begin("prefill")
    second = feeds.of("shared").prompt
    assert first.pixels is not None
    assert second.pixels is not None
    assert first.grids == second.grids
    assert torch.equal(first.shows(), second.shows())
    assert not torch.equal(first.pixels, second.pixels)
