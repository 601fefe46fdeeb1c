"""Which tokens a free choice may say, from both sides of a near-tie, and what is cut or left alone of a text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.parity.levels.generation import Generated, ReferenceText, check_generation, fed, forced, generate
from harness.records.checks import Check
from harness.spec.model_inputs import ModelInputs

ROWS, PROMPT, NEW, VOCAB = 2, 3, 5, 16
BEST, SECOND = 4, 9


class Words:
    def says(self, tokens: list[int]) -> str:
        return " ".join(map(str, tokens))


def text(margin: float = 0.5, plain_error: float = 0.25, reserved: tuple[int, ...] = ()) -> ReferenceText:
    """At each step the best token leads by `margin`; plain code errs by `plain_error` on a token that nobody says."""
    tokens = torch.cat((torch.arange(ROWS * PROMPT).view(ROWS, PROMPT), torch.full((ROWS, NEW), BEST)), 1)
    upcast = torch.zeros(ROWS, PROMPT + NEW, VOCAB, dtype=torch.float64)
    upcast[..., BEST], upcast[..., SECOND] = 3.0 + margin, 3.0
    upcast += torch.arange(PROMPT + NEW)[:, None] / 64
    stepwise = upcast[:, PROMPT - 1 : -1].clone()
    stepwise[..., 12] -= plain_error
    generated = Generated(ModelInputs(tokens, reserved=reserved), stepwise.float(), PROMPT)
    return ReferenceText(generated, upcast, upcast.float(), stepwise.float())


def tokens_of(known: ReferenceText, said: int = SECOND, rows: int = 1, words: Words | None = None) -> Check:
    """Our logits are the plain model's, but that the last step of the last `rows` says `said`."""
    ours = known.stepwise.clone()
    ours[-rows:, -1, said] = 9.0
    found = check_generation(ours, known, words)
    assert [check.rule for check in found] == ["max", "rms", "worst token", "mean KL", "top-1", "tokens"]
    assert {(check.level, check.subject) for check in found} == {("generation", "greedy decode")}
    return found[-1]


@pytest.mark.parametrize("margin", [0.49, 0.5])
def test_a_token_may_change_up_to_twice_the_plain_models_error(margin: float) -> None:
    check = tokens_of(text(margin))
    assert (check.error, check.noise, check.limit, check.passed) == (0, 0, 0, True)
    assert (check.where, check.name) == ("1 of 10 at near-ties", "5 tokens x 2")


@pytest.mark.parametrize(("rows", "where"), [(1, "first at batch row 1, step 4"), (2, "first at batch row 0, step 4")])
def test_a_token_that_no_near_tie_explains_is_refused(rows: int, where: str) -> None:
    check = tokens_of(text(0.51), rows=rows)
    assert (check.error, check.passed, check.where) == (rows, False, where)


def test_the_margin_is_between_the_two_best_whichever_is_said() -> None:
    assert tokens_of(text(0.49), said=1).error == 0


def test_an_error_of_the_wrong_sign_allows_as_much() -> None:
    assert tokens_of(text(0.5, plain_error=-0.25)).error == 0


def test_nothing_else_is_said_of_the_same_tokens() -> None:
    assert tokens_of(text(), said=BEST, words=Words()).where == f"identical, says '{' '.join(['4'] * NEW)}'"


def test_reserved_tokens_are_never_said() -> None:
    known = text(0.51, reserved=(SECOND,))
    assert tokens_of(known, said=SECOND).where == "identical"
    assert tokens_of(text(0.49, reserved=(7,)), said=SECOND).where == "1 of 10 at near-ties"


def test_a_reserved_token_is_no_near_tie_of_the_best() -> None:
    """The best but for the reserved one leads by 3 and more: no other may be said."""
    assert tokens_of(text(0.1, reserved=(SECOND,)), said=1).error == 1


def test_a_text_is_cut_from_either_end() -> None:
    known = text()
    first, last = known.first(2), known.last(2)
    assert first.generated.tokens.equal(known.generated.tokens[:, : PROMPT + 2])
    assert (first.generated.prompt_tokens, first.generated.new_tokens) == (PROMPT, 2)
    assert (last.generated.prompt_tokens, last.generated.new_tokens) == (PROMPT + NEW - 2, 2)
    assert last.generated.tokens.equal(known.generated.tokens)
    for cut, steps in ((first, slice(0, 2)), (last, slice(NEW - 2, NEW)), (known, slice(0, NEW))):
        assert cut.decoded.upcast.equal(known.upcast[:, PROMPT - 1 : -1][:, steps])
        assert cut.decoded.plain.equal(known.stepwise[:, steps])
        assert cut.generated.logits.equal(known.generated.logits[:, steps])
        assert cut.whole.upcast.shape == cut.whole.plain.shape == (*cut.generated.tokens.shape, VOCAB)
    assert known.last(99).generated.new_tokens == NEW
    assert known.generated.prompt.tokens.equal(known.generated.tokens[:, :PROMPT])


def test_rows_are_taken_alone_and_twice() -> None:
    known = text()
    known.upcast[1] += 1
    alone, twice = known.alone(), known.twice()
    for name in ("upcast", "plain", "stepwise"):
        whole = getattr(known, name)
        assert getattr(alone, name).equal(whole[:1])
        assert getattr(twice, name).equal(torch.cat((whole, whole)))
    assert alone.generated.tokens.equal(known.generated.tokens[:1])
    assert twice.generated.tokens.equal(known.generated.tokens.repeat(2, 1))
    assert alone.generated.logits.equal(known.generated.logits[:1])
    assert twice.generated.logits.equal(known.generated.logits.repeat(2, 1, 1))
    assert {found.generated.prompt_tokens for found in (alone, twice)} == {PROMPT}


class Counting:
    """A model whose logits tell how many tokens its cache holds behind each one and which it was given: it answers a
    step in memory that the next one overwrites."""

    def __init__(self) -> None:
        self.memory = torch.zeros(ROWS, 2)

    def new_cache(self, batch: int, capacity: int, left_padding: None) -> SimpleNamespace:
        return SimpleNamespace(held=0, capacity=capacity)

    def __call__(self, tokens: torch.Tensor, cache: SimpleNamespace, keep: int) -> torch.Tensor:
        assert keep == 1
        first, cache.held = cache.held, cache.held + tokens.shape[1]
        places = torch.arange(first, cache.held).expand(tokens.shape)
        return torch.stack((places, tokens), -1)[:, -keep:].float()

    def decode(self, tokens: torch.Tensor, cache: SimpleNamespace) -> torch.Tensor:
        assert tokens.shape == (ROWS, 1)
        return self.memory.copy_(self(tokens, cache, keep=1)[:, -1])


def test_a_text_is_forced_token_by_token_behind_its_prompt() -> None:
    known, model = text().generated, Counting()
    told = forced(model, known, model.decode)
    assert told[0].tolist() == [[PROMPT - 1 + step, token] for step, token in enumerate([2, BEST, BEST, BEST, BEST])]
    assert told.shape == (ROWS, NEW, 2)
    assert told[1, 0].tolist() == [PROMPT - 1, 5]
    cache = model.new_cache(ROWS, 99, None)
    model(known.tokens[:, :2], cache, keep=1)
    assert fed(model, known.tokens, cache, 2, PROMPT + 1, model.decode)[0, :, 0].tolist() == [3, 4, 5, 6]
    assert cache.held == PROMPT + NEW - 1


@pytest.mark.parametrize("reserved", [(), (7, 9)])
def test_the_reference_generates_greedily_and_never_ends_a_text(reserved: tuple[int, ...]) -> None:
    prompt, seen = ModelInputs(torch.arange(6).view(ROWS, PROMPT), reserved=reserved), {}
    steps = tuple(torch.full((ROWS, VOCAB), float(step)) for step in range(NEW))
    said = torch.cat((prompt.tokens, torch.full((ROWS, NEW), BEST)), 1)
    own = SimpleNamespace(eos_token_id=3)

    def answer(tokens: torch.Tensor, **words: Any) -> SimpleNamespace:
        seen.update(words, tokens=tokens, ends=own.eos_token_id)
        return SimpleNamespace(logits=steps, sequences=said)

    model = SimpleNamespace(generate=answer, generation_config=own, dtype=torch.float16)
    found = generate(SimpleNamespace(model=model), prompt, NEW)
    config = seen["generation_config"]
    assert (config.do_sample, config.max_new_tokens, config.repetition_penalty) == (False, NEW, 1.0)
    assert (config.return_dict_in_generate, config.output_logits, config.pad_token_id) == (True, True, 0)
    assert config.suppress_tokens == (list(reserved) or None)
    assert (seen["ends"], own.eos_token_id) == (None, 3)
    assert seen["attention_mask"].equal(torch.ones_like(prompt.tokens))
    assert (found.logits.shape, found.logits.dtype) == ((ROWS, NEW, VOCAB), torch.float16)
    assert found.logits[0, :, 0].tolist() == list(range(NEW))
    assert found.tokens.equal(said)
    assert found.prompt_tokens == PROMPT
