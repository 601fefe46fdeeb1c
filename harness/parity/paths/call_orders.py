"""A seeded walk over orders of calls: caches that are opened beside each other, fed in chunks and steps, rewound, fed
other tokens, closed, and opened again on what is left of them. What each says is held against the reference from
scratch."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.parity.levels.logits import Reference, judge_path
from harness.parity.paths.call_plan import Planner, Step, Text, longest, without
from harness.parity.paths.prefix_cache import PAGE_TOKENS, counted
from harness.parity.reference.routing import Routes, our_choices
from harness.parity.tolerance.rules import relative_frobenius
from harness.records.checks import Check
from harness.records.path_names import ExecutionPath
from harness.spec.model import Routing
from harness.spec.optimization import Capability
from harness.spec.runtime import CausalLM, KVCache, PrefixCache, prefix_lm

STEPS = 24
WALKS = {"compiled": 12, "none": 4, "interpreted": 1}
"""By what a launch of a kernel means: interpreted, each is slow; without one, no build is judged that ships."""
STREAMS = 3
STREAM_TOKENS = {"cpu": 40, "cuda": 200}
"""By the kind of device: on a GPU three pages of a product's size, and a part of one."""


@dataclass(frozen=True)
class Answers:
    """What the reference says to texts: logits [texts, T, vocab] wide and plain, and the experts that it chose."""

    texts: Sequence[Text]
    upcast: Tensor
    plain: Tensor
    routes: Routes

    def row(self, text: Text) -> int:
        """Which of the texts begins with `text`."""
        return next(row for row, whole in enumerate(self.texts) if whole[: len(text)] == text)


@dataclass(frozen=True)
class Said:
    """Logits [N, vocab] of one step, and where the reference has its own: rows and tokens [N]."""

    step: Step
    logits: Tensor
    rows: Tensor
    tokens: Tensor


def check_orders(
    model: CausalLM,
    provides: Collection[Capability],
    streams: Tensor,
    answer: Callable[[Sequence[Text]], Answers],
    routing: Routing | None,
    seed: int,
    walks: int,
) -> list[Check]:
    """Take so many walks of STEPS steps over streams [S, T] of token ids. The logits of a walk are judged together as
    those of any path, and what shared prefixes reuse is counted: no slot more, and none less, than was computed and
    kept. Where a walk is wrong, the shortest that is found to be wrong is told."""
    pools = "prefix_cache" in provides
    plans = [Planner(streams.tolist(), random.Random(seed + n).randint, pools).steps(STEPS) for n in range(walks)]
    walk = Walk(model, answer(longest([step for plan in plans for step in plan])), streams.device, routing)
    checks = list[Check]()
    for plan in plans:
        found = walk.judged(plan)
        if not all(check.passed for check in found):
            told = "; ".join(step.told() for step in walk.shortest(plan))
            return [*checks, *(check.model_copy(update={"where": f"{check.where}: {told}"}) for check in found)]
        checks += found
    return checks


class Walk:
    """Runs plans on a model and holds what it says against `answers`."""

    def __init__(self, model: CausalLM, answers: Answers, device: torch.device, routing: Routing | None) -> None:
        self.model, self.answers, self.device, self.routing = model, answers, device, routing
        self.followed: dict[int, tuple[KVCache, Routes]] = {}
        """By the identity of a cache, which a pool may hand out again with the steps that were captured on it."""

    def judged(self, steps: Sequence[Step]) -> list[Check]:
        said, found = self.run(steps)
        rows, tokens = (torch.cat([getattr(one, name) for one in said]) for name in ("rows", "tokens"))
        ours = torch.cat([one.logits for one in said])
        reference = Reference(
            self.answers.upcast[rows, tokens].unsqueeze(0), self.answers.plain[rows, tokens].unsqueeze(0)
        )
        return [
            judge_path(ExecutionPath.CALL_ORDERS, ours.unsqueeze(0), reference),
            counted(ExecutionPath.CALL_ORDERS, "slots reused", found),
        ]

    def run(self, steps: Sequence[Step]) -> tuple[list[Said], int]:
        """Everything that was said, and by how many slots more or less was found in the pool than it keeps."""
        caches: dict[int, _Cache] = {}
        said, wrong = list[Said](), 0
        pool = self._pool(steps)
        for step in steps:
            if step.does == "open":
                caches[step.cache] = cache = self._open(step, pool)
                wrong += abs(cache.length - step.reusable) if step.pooled else 0
            cache = caches[step.cache]
            cache.follow(step, self.answers)
            if step.does == "rewind":
                cache.cache.rewind(step.count)
                cache.length = step.count
            elif step.does == "close" and step.pooled and pool is not None:
                generated = torch.tensor(step.generated, device=self.device) if step.generated else None
                pool.close(cache.cache, generated)
            elif step.does != "close":
                said.append(self._feed(step, cache))
        return said, wrong

    def shortest(self, steps: Sequence[Step]) -> Sequence[Step]:
        """The walk up to its first wrong step, without the caches that it goes wrong without."""
        said, _ = self.run(steps)
        wrong = next((one.step for one in said if self._off(one)), None)
        if wrong is None:
            return steps
        steps = steps[: steps.index(wrong) + 1]
        for other in sorted({step.cache for step in steps} - {wrong.cache}):
            fewer = without(steps, other)
            if any(self._off(one) for one in self.run(fewer)[0]):
                steps = fewer
        return steps

    def _off(self, one: Said) -> bool:
        """Whether a step is farther off than rounding could be."""
        upcast, plain = (logits[one.rows, one.tokens] for logits in (self.answers.upcast, self.answers.plain))
        return relative_frobenius(one.logits, upcast) > 3 * relative_frobenius(plain, upcast) + 1e-5

    def _pool(self, steps: Sequence[Step]) -> PrefixCache | None:
        """Room for everything that the walk holds and keeps."""
        rows = sum(len(step.texts) for step in steps if step.does == "open" and step.pooled)
        if not rows:
            return None
        prefixes, tokens = prefix_lm(self.model).prefixes, self.answers.upcast.shape[1]
        page_tokens = prefixes.page_tokens if 2 * prefixes.page_tokens <= tokens else PAGE_TOKENS
        return prefixes.resized(2 * rows * (-(-tokens // page_tokens) + 1), page_tokens)

    def _open(self, step: Step, pool: PrefixCache | None) -> _Cache:
        capacity, padding = self.answers.upcast.shape[1] + 3, list(step.padding)
        if step.pooled and pool is not None:
            tokens = torch.tensor([[0] * pad + [*text] for pad, text in zip(padding, step.texts, strict=True)])
            opened = pool.open(tokens.to(self.device), capacity, padding)
            return _Cache(opened.cache, step.padding, opened.matched, self._routes(step, opened.cache))
        cache = self.model.new_cache(len(padding), capacity, padding)
        return _Cache(cache, step.padding, 0, self._routes(step, cache))

    def _routes(self, step: Step, cache: KVCache) -> Routes:
        rows = [self.answers.row(text) for text in step.texts]
        made = self.answers.routes.mapped(lambda tensor: tensor[rows].clone())
        return self.followed.setdefault(id(cache), (cache, made))[1]

    def _feed(self, step: Step, cache: _Cache) -> Said:
        """What the cache does not hold of the step's texts yet, at once or one by one."""
        held = [[0] * pad + [*text] for pad, text in zip(cache.padding, step.texts, strict=True)]
        tokens = torch.tensor(held, device=self.device)
        first, last = cache.length, tokens.shape[1]
        with our_choices(self.model, self.routing, cache.routes):
            if step.does == "decode":
                steps = range(first, last)
                logits = torch.stack([self.model.decode(tokens[:, t : t + 1], cache.cache).clone() for t in steps], 1)
            else:
                logits = self.model(tokens[:, first:], cache.cache)
        cache.length = last
        slots = torch.arange(first, last, device=self.device)
        at = slots.unsqueeze(0) - torch.tensor(cache.padding, device=self.device).unsqueeze(1)
        rows = torch.tensor([self.answers.row(text) for text in step.texts], device=self.device)
        real = at >= 0
        return Said(step, logits[real], rows.unsqueeze(1).expand_as(at)[real], at[real])


@dataclass
class _Cache:
    cache: KVCache
    padding: Text
    length: int
    routes: Routes
    """Of its rows. A step that was captured on the cache reads this memory at every replay."""

    def follow(self, step: Step, answers: Answers) -> None:
        """Take the experts of the texts that its rows go on with."""
        rows = [answers.row(text) for text in step.texts]
        for index, route in self.routes.layers.items():
            for name, tensor in vars(answers.routes.layers[index]).items():
                vars(route)[name].copy_(tensor[rows])
