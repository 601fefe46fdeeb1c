"""Greedy generation: the reference generates, the candidate is fed the same tokens and judged at every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.build.inputs import prepared
from harness.build.tokenizer import Text
from harness.parity.levels.logits import Reference, judge_logits
from harness.parity.reference.reference_model import ReferenceModel
from harness.records.checks import Check
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import CausalLM, DecodeStep, HuggingFaceLM, KVCache


@dataclass(frozen=True)
class Generated:
    """What the plain model said by itself: the prompt with the new tokens, [B, prompt + new], and the logits
    [B, new, vocab] that chose them."""

    inputs: ModelInputs
    logits: Tensor
    prompt_tokens: int

    @property
    def tokens(self) -> Tensor:
        return self.inputs.tokens

    @property
    def prompt(self) -> ModelInputs:
        return self.inputs.continued(self.tokens[:, : self.prompt_tokens])

    @property
    def new_tokens(self) -> int:
        return self.logits.shape[1]

    def first(self, new_tokens: int) -> Generated:
        """The same, cut to its first `new_tokens`."""
        end = self.prompt_tokens + new_tokens
        return Generated(self.inputs.continued(self.tokens[:, :end]), self.logits[:, :new_tokens], self.prompt_tokens)

    def last(self, new_tokens: int) -> Generated:
        """The same tokens, all but the last `new_tokens` taken as the prompt, which keeps at least what it held."""
        new_tokens = min(new_tokens, self.new_tokens)
        return Generated(self.inputs, self.logits[:, -new_tokens:], self.tokens.shape[1] - new_tokens)

    def alone(self) -> Generated:
        """The first row."""
        return Generated(self.inputs.row(0), self.logits[:1], self.prompt_tokens)

    def twice(self) -> Generated:
        """Every row again, after all of them."""
        return Generated(self.inputs.twice(), self.logits.tile(2, 1, 1), self.prompt_tokens)


@dataclass(frozen=True)
class ReferenceText:
    """A generated text with all that the reference says to it."""

    generated: Generated
    upcast: Tensor
    """[B, T, vocab] in the wide type, of the whole text at once."""
    plain: Tensor
    """[B, T, vocab] in the model's dtype, of the whole text at once."""
    stepwise: Tensor
    """[B, new, vocab] in the model's dtype, of the new tokens one by one."""

    @property
    def whole(self) -> Reference:
        """What logits of every token are held against."""
        return Reference(self.upcast, self.plain)

    @property
    def decoded(self) -> Reference:
        """What logits of the new tokens, decoded one by one, are held against."""
        return Reference(self.upcast[:, self.generated.prompt_tokens - 1 : -1], self.stepwise)

    def first(self, new_tokens: int) -> ReferenceText:
        """As `Generated.first`."""
        cut = self.generated.first(new_tokens)
        length = cut.tokens.shape[1]
        return ReferenceText(cut, self.upcast[:, :length], self.plain[:, :length], self.stepwise[:, : cut.new_tokens])

    def last(self, new_tokens: int) -> ReferenceText:
        """As `Generated.last`."""
        cut = self.generated.last(new_tokens)
        return replace(self, generated=cut, stepwise=self.stepwise[:, -cut.new_tokens :])

    def alone(self) -> ReferenceText:
        """The first row."""
        return ReferenceText(self.generated.alone(), self.upcast[:1], self.plain[:1], self.stepwise[:1])

    def twice(self) -> ReferenceText:
        """Every row again, after all of them."""
        logits = (logits.tile(2, 1, 1) for logits in (self.upcast, self.plain, self.stepwise))
        return ReferenceText(self.generated.twice(), *logits)


def generate(plain: ReferenceModel, prompt: ModelInputs, new_tokens: int) -> Generated:
    """Hugging Face's own `generate`, greedy, exactly `new_tokens` long."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=new_tokens,
        repetition_penalty=1.0,
        pad_token_id=0,
        suppress_tokens=list(prompt.reserved) or None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    with _endless(plain.model):
        out = plain.model.generate(
            prompt.tokens,
            attention_mask=torch.ones_like(prompt.tokens),
            generation_config=config,
            **prompt.keywords(),
        )
    logits = torch.stack(out.logits, dim=1).to(plain.model.dtype)
    return Generated(prompt.continued(out.sequences), logits, prompt.tokens.shape[1])


@contextmanager
def _endless(model: HuggingFaceLM) -> Iterator[None]:
    """While open, no token ends a sequence. What a generation config leaves out is taken from the model's own, so that
    asking for no end token is not enough."""
    own = model.generation_config
    kept, own.eos_token_id = own.eos_token_id, None
    try:
        yield
    finally:
        own.eos_token_id = kept


def forced(model: CausalLM, generated: Generated, decode: DecodeStep) -> Tensor:
    """Our logits [B, new, vocab] when every step is fed the reference's token."""
    tokens = generated.tokens
    cache = prepared(model, generated.prompt, tokens.shape[1])
    return fed(model, tokens, cache, 0, generated.prompt_tokens, decode)


def fed(model: CausalLM, tokens: Tensor, cache: KVCache, held: int, start: int, decode: DecodeStep) -> Tensor:
    """Our logits [B, T - start, vocab] when tokens [B, T] come up to `start` at once and then one by one. The cache
    holds the first `held` of them."""
    steps = [model(tokens[:, held:start], cache, keep=1)[:, -1]]
    for step in range(start, tokens.shape[1] - 1):
        steps.append(decode(tokens[:, step : step + 1], cache).clone())
    return torch.stack(steps, dim=1)


def check_generation(ours: Tensor, known: ReferenceText, tokenizer: Text | None = None) -> list[Check]:
    """ours [B, new, vocab]. A token that differs from the one generated is legal only at a near-tie; the logits of
    every step are judged besides, with the plain model's error as the measure. `tokenizer` tells what we said."""
    checks = judge_logits(ours, known.decoded, "generation", "greedy decode")
    return [*checks, _tokens(ours, known.decoded.upcast, known.generated, tokenizer)]


def _tokens(ours: Tensor, upcast: Tensor, generated: Generated, text: Text | None) -> Check:
    chosen = generated.tokens[:, generated.prompt_tokens :]
    allowance = 2 * (generated.logits.to(upcast.dtype) - upcast).abs().amax(-1)
    reserved = torch.tensor(generated.inputs.reserved, dtype=torch.int64, device=ours.device)
    ours, upcast = (logits.index_fill(-1, reserved, -torch.inf) for logits in (ours, upcast))
    differs = ours.argmax(-1) != chosen
    top = upcast.topk(2, dim=-1).values
    illegal = differs & (top[..., 0] - top[..., 1] > allowance)
    steps = illegal.nonzero()
    if len(steps):
        where = f"first at batch row {int(steps[0, 0])}, step {int(steps[0, 1])}"
    else:
        where = "identical" if not bool(differs.any()) else f"{int(differs.sum())} of {differs.numel()} at near-ties"
    if text is not None:
        where += f", says {text.says(ours[0].argmax(-1).tolist())!r}"
    return Check(
        level="generation",
        subject="greedy decode",
        name=f"{chosen.shape[1]} tokens x {chosen.shape[0]}",
        rule="tokens",
        error=len(steps),
        noise=0,
        limit=0,
        where=where,
    )
