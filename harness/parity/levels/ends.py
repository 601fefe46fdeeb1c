"""Both ends of a model, teacher-forced: its embedding, and its final norm and head (docs/method.md 1.4)."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.build.dtypes import dtype_name, wider
from harness.build.inputs import prepared
from harness.errors import HarnessError
from harness.parity.levels.logits import close
from harness.parity.reference.reference_model import ReferenceModel
from harness.parity.tolerance.rules import judge, worst
from harness.records.checks import Check
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Capability
from harness.spec.runtime import CausalLM, plain_step

HEAD_TOKENS = 32
"""Tokens of a row whose logits are judged, at most; all of them go through the head."""


class Streams(NamedTuple):
    """The plain model's residual stream [B, T, H] at both ends of its layers."""

    embedded: Tensor
    last: Tensor
    """What its final norm is given."""


def check_ends(
    model: CausalLM, plain: ReferenceModel, inputs: ModelInputs, streams: Streams, provides: Collection[Capability]
) -> list[Check]:
    """The embedding of a prompt against the plain model's, bit for bit where no image shows; the logits of the final
    norm and head, given the plain model's own stream: of a whole prompt, of one token a row by the model's plain step,
    and by a captured step where its layers run when it is captured. `provides` tells what the model's stack does.
    Raises HarnessError for a build that never calls its layers."""
    dtype, (batch, tokens) = dtype_name(streams.last.dtype), inputs.tokens.shape
    text = ~inputs.shows()
    cache = prepared(model, inputs, tokens + 1)
    with _given(model) as embedded, _forced(model, streams.last) as forced:
        logits = model(inputs.tokens, cache)
    if not (embedded and forced):
        raise HarnessError(f"{type(model).__name__} runs without its first or last layer: its ends cannot be judged")
    checks = [_embedding(embedded[0][text], streams.embedded[text], dtype)]
    judged = torch.zeros_like(text)
    judged[:, torch.linspace(0, tokens - 1, min(HEAD_TOKENS, tokens)).round().long()] = True
    judged &= text
    checks.append(_head(plain, logits[judged], streams.last[judged], f"{batch} x {tokens} tokens, {dtype}"))
    steps = {"one token a row": plain_step(model)}
    if "captured_step" in provides:
        steps["one token a row, captured"] = model.decode
    for name, step in steps.items():
        cache.rewind(tokens)
        # Whatever the token is, its last layer answers as the prompt's last token left it.
        with _forced(model, streams.last[:, -1:]) as forced:
            logits = step(inputs.tokens[:, -1:], cache)
        # A compiled step runs no layer that could be told what to answer.
        if forced or name == "one token a row":
            checks.append(_head(plain, logits, streams.last[:, -1], f"{name}, {dtype}"))
    return checks


def _embedding(ours: Tensor, theirs: Tensor, name: str) -> Check:
    """Streams [N, H] of tokens of text."""
    upcast = theirs.to(wider(theirs.dtype))
    return worst(judge(ours, upcast, theirs, level="layer", subject="embedding", name=name))


def _head(plain: ReferenceModel, ours: Tensor, hidden: Tensor, name: str) -> Check:
    """Logits [N, vocab] of the stream [N, H]."""
    upcast = wider(hidden.dtype)
    wide_norm, weight = copy.deepcopy(plain.core.norm).to(upcast), plain.model.lm_head.weight
    reference = torch.nn.functional.linear(wide_norm(hidden.to(upcast)), weight.to(upcast))
    theirs = plain.model.lm_head(plain.core.norm(hidden))
    if hidden.dtype == torch.float32:
        # The longest sum of a model, cut by every library in its own way: the rule of float32 logits.
        return close(ours, theirs, reference, "layer", "final norm and head", name)
    return worst(judge(ours, reference, theirs, level="layer", subject="final norm and head", name=name))


@contextmanager
def _given(model: CausalLM) -> Iterator[list[Tensor]]:
    """While open, the stream that the first layer is called with is kept."""
    kept: list[Tensor] = []

    def hook(_: Any, args: tuple[Any, ...]) -> None:
        kept.append((args[1] if args[0] is None else args[0]).clone())

    handle = model.layers[0].register_forward_pre_hook(hook)
    try:
        yield kept
    finally:
        handle.remove()


@contextmanager
def _forced(model: CausalLM, stream: Tensor) -> Iterator[list[None]]:
    """While open, the last layer answers `stream`; how often is counted."""
    calls: list[None] = []

    def hook(_: Any, __: Any, out: Any) -> Any:
        calls.append(None)
        return (torch.zeros_like(out[0]), stream) if isinstance(out, tuple) else stream

    handle = model.layers[-1].register_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()
