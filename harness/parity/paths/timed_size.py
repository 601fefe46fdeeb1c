"""The model at the size that is timed, and on both sides of every edge of its dispatch that this size reaches: rows and
cache slots that the rest of a proof, which is shorter, never comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from harness.build import inputs
from harness.build.inputs import prepared, reopened
from harness.errors import HarnessError
from harness.parity.kernels.dispatches import code, dispatched, functions
from harness.parity.levels.logits import Reference, judge_path
from harness.parity.parity_run import ParityRun
from harness.parity.reference.oracle import Known
from harness.parity.reference.routing import our_choices
from harness.records.checks import Check
from harness.records.proof_size import TimedSize
from harness.spec.model_inputs import ModelInputs
from harness.spec.optimization import Axis, Optimization
from harness.spec.runtime import CausalLM, KVCache, PrefixLM, prefix_lm

EDGE_PROMPT = 32
"""Tokens of the prompts behind which rows are decoded."""
EDGE_STEPS = 2


def check_timed_size(run: ParityRun, size: TimedSize) -> Iterator[list[Check]]:
    """The last logits of a prompt, and of each step behind it, on a cache as the timed ones are; where an earlier
    prompt shares its beginning, behind that, too. Then the edges."""
    known = _known(run, size)
    reference = Reference(known.upcast, known.plain)
    with our_choices(run.model, run.spec.routing, known.routes):
        yield [judge_path("timed size", _cold(run.model, known.inputs, size), reference)]
        if size.shared and not size.images and "prefix_cache" in run.config.provides:
            ours = _hit(prefix_lm(run.model), known.inputs, size)
            yield [judge_path("timed size behind a shared prefix", ours, reference)]
    for name in run.stack:
        for axis, edge in reached(run.spec.menu[name], size):
            yield check_edge(run, run.spec.menu[name], axis, edge)


def reached(item: Optimization, size: TimedSize) -> Iterator[tuple[Axis, int]]:
    """The edges of an optimization up to the timed size."""
    at: dict[Axis, int] = {"rows": size.batch, "keys": size.capacity}
    if item.edges is not None and size.steps:
        yield from ((axis, edge) for axis, edges in item.edges().items() for edge in edges if edge <= at[axis])


def check_edge(run: ParityRun, item: Optimization, axis: Axis, edge: int) -> list[Check]:
    """Steps with `edge` rows or cache slots, and with one more. HarnessError where the optimization's kernels are
    launched alike on both sides and can be seen: whoever declared the edge was mistaken about it."""
    checks, seen = [], []
    for value in (edge, edge + 1):
        check, launched = _side(run, item, axis, value)
        checks.append(check)
        seen.append(launched)
    if run.target.kernels != "none" and item.kernels and seen[0] == seen[1]:
        raise HarnessError(
            f"optimization '{item.name}' declares an edge at {edge} {axis}, and launches the same kernels on both "
            "sides: what it was declared for would be proven on one side alone"
        )
    return checks


def _side(run: ParityRun, item: Optimization, axis: Axis, value: int) -> tuple[Check, set[str]]:
    """Rows are decoded behind a short prompt, and slots are those of one row: more of the other might be a dispatch
    that knows no such edge."""
    rows, tokens = (value, EDGE_PROMPT) if axis == "rows" else (1, value - EDGE_STEPS)
    side = TimedSize(rows, tokens, EDGE_STEPS)
    known = _known(run, side)
    with our_choices(run.model, run.spec.routing, known.routes):
        cache = prepared(run.model, _beginning(known.inputs, side), side.capacity)
        run.model(known.inputs.tokens[:, : side.prompt_tokens], cache, keep=1)
        with dispatched(item.kernels) as steps:
            ours = _steps(run.model, known.inputs, cache, side)
    reference = Reference(known.upcast[:, 1:], known.plain[:, 1:])
    check = judge_path(f"{value} {axis}, by an edge of {item.name}", torch.stack(ours, dim=1), reference)
    own = functions(item.kernels, run.target.dtype)
    return check, {code(name) for name in steps.names() if name.partition("(")[0] in own}


def _known(run: ParityRun, size: TimedSize) -> Known:
    """Prompts of this size and the tokens that follow; logits of the prompt's last token and of those."""
    prompt = _drawn(run, size.prompt_tokens, [size.images] * size.batch, f"timed size {size}")
    if size.steps:
        following = _drawn(run, size.steps, [0] * size.batch, f"behind {size}")
        prompt = prompt.continued(torch.cat((prompt.tokens, following.tokens), dim=1))
    return run.oracle.end(prompt, size.steps + 1)


def _drawn(run: ParityRun, tokens: int, images: Sequence[int], purpose: str) -> ModelInputs:
    source = run.source
    drawn = inputs.draw(run.spec, source.config, tokens, images, source.seed, purpose, source.text, source.pictures)
    return drawn.to(run.target.device, run.target.dtype)


def _beginning(whole: ModelInputs, size: TimedSize) -> ModelInputs:
    return whole.continued(whole.tokens[:, : size.prompt_tokens])


def _cold(model: CausalLM, whole: ModelInputs, size: TimedSize) -> Tensor:
    """Logits [B, 1 + steps, vocab]."""
    prompt = _beginning(whole, size)
    cache = prepared(model, prompt, size.capacity)
    first = model(prompt.tokens, cache, keep=1)[:, -1].clone()
    return torch.stack([first, *_steps(model, whole, cache, size)], dim=1)


def _hit(model: PrefixLM, whole: ModelInputs, size: TimedSize) -> Tensor:
    """The same behind the beginning that an earlier prompt left in the pool."""
    prompt = _beginning(whole, size)
    page_tokens = model.prefixes.page_tokens
    prefixes = model.prefixes.resized(2 * size.batch * -(-size.capacity // page_tokens), page_tokens)
    earlier = prompt.tokens[:, : size.shared]
    cache, _ = prefixes.open(earlier, size.shared)
    model(earlier, cache, keep=1)
    prefixes.close(cache)
    opened = reopened(model, prefixes, prompt, size.capacity)
    first = model(prompt.tokens[:, opened.matched :], opened.cache, keep=1)[:, -1].clone()
    ours = torch.stack([first, *_steps(model, whole, opened.cache, size)], dim=1)
    prefixes.close(opened.cache)
    return ours


def _steps(model: CausalLM, whole: ModelInputs, cache: KVCache, size: TimedSize) -> list[Tensor]:
    """Logits [B, vocab] of each token behind the prompt."""
    following = range(size.prompt_tokens, size.prompt_tokens + size.steps)
    return [model.decode(whole.tokens[:, at : at + 1], cache).clone() for at in following]
