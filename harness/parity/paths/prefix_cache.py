"""Prefixes that are reused: hits against cold logits, rows that part inside a block, a pool that evicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harness.build.inputs import reopened
from harness.parity.levels.generation import ReferenceText, fed
from harness.parity.levels.logits import Reference, judge_path
from harness.parity.paths.padding import Padded
from harness.parity.tolerance.bitwise import differs
from harness.records.checks import Check
from harness.records.path_names import ExecutionPath
from harness.spec.runtime import OpenedPrefix, PrefixCache, PrefixLM

PAGE_TOKENS = 16
"""Small, so that a short prompt fills pages, shares some and ends inside another."""

MAGNIFIED = 64
"""Times as many values in each patch, of images that only tell prefixes apart: more than a part of one stands for."""
DECODED = 4
"""Steps decoded after a hit: each reads shared pages in the same way."""


def check_prefixes(model: PrefixLM, known: ReferenceText) -> list[Check]:
    """What is cached beforehand varies; what is judged is always the model on the tokens of `known`."""
    bench = _Bench(model, known)
    return [
        *bench.hit(),
        *bench.in_own_blocks(),
        *bench.abandoned(),
        bench.decoded(),
        *bench.parted(),
        *bench.evicted(),
        *bench.held(),
        *bench.repainted(),
        *bench.told_apart(),
        *bench.wiped(),
        *bench.padded(),
    ]


class _Bench:
    def __init__(self, model: PrefixLM, known: ReferenceText) -> None:
        self.model, self.known = model, known
        generated = known.generated
        self.inputs, self.tokens, self.start = generated.inputs, generated.tokens, generated.prompt_tokens
        self.batch, self.length = self.tokens.shape
        self.columns = -(-self.length // PAGE_TOKENS)

    def pool(self, batches: int, spare: int = 0) -> PrefixCache:
        """Room for so many batches of these tokens, and `spare` pages."""
        return self.model.prefixes.resized(batches * self.batch * self.columns + spare, PAGE_TOKENS)

    def hit(self) -> list[Check]:
        """The prompt is cached; the rest is computed on top of it."""
        prefixes = self.pool(2)
        self.warm(prefixes, self.tokens[:, : self.start])
        return self.rest(prefixes, ExecutionPath.PREFIX_HIT, self.start)

    def in_own_blocks(self) -> list[Check]:
        """A hit of one whole block of the size that the model was built with, where our tokens reach past it; of the
        whole prompt where it shows images, which no prompt may show in part."""
        block = self.model.prefixes.page_tokens
        cached = block if self.inputs.pixels is None else self.start
        if block == PAGE_TOKENS or not block <= cached < self.length:
            return []
        prefixes = self.model.prefixes.resized(2 * self.batch * -(-self.length // block), block)
        self.warm(prefixes, self.tokens[:, :cached])
        return self.rest(prefixes, f"prefix hit in blocks of {block}", cached)

    def abandoned(self) -> list[Check]:
        """Another row opened the whole of our tokens and was closed when only the prompt was computed."""
        prefixes = self.pool(2)
        cache, matched = self.open(prefixes, self.tokens)
        self.model(self.tokens[:, matched : self.start], cache)
        prefixes.close(cache)
        return self.rest(prefixes, ExecutionPath.PREFIX_ABANDONED, self.start)

    def decoded(self) -> Check:
        """The first token comes from a hit that leaves one token to compute, the others are decoded."""
        prefixes = self.pool(2)
        prompt = self.tokens[:, : self.start]
        self.warm(prefixes, prompt)
        cache, matched = self.open(prefixes, prompt)
        end = min(self.start + DECODED, self.length - 1)
        steps = fed(self.model, self.tokens[:, : end + 1], cache, matched, self.start, self.model.decode)
        prefixes.close(cache)
        expected = self.known.first(steps.shape[1]).decoded
        return judge_path(ExecutionPath.PREFIX_DECODED, steps, expected)

    def parted(self) -> list[Check]:
        """Cached rows agree with ours up to the middle of a block: theirs must stay what they were. Of several rows the
        first is cached whole, and all reuse what the others find."""
        prefixes = self.pool(3)
        # A whole block lies behind the one that they part in.
        cut = self.length - PAGE_TOKENS - PAGE_TOKENS // 2 - 2
        cut += cut % PAGE_TOKENS == 0
        others = torch.cat((self.tokens[:, :cut], self.other(1)[:, cut:]), dim=1)
        if self.batch > 1:
            others[0] = self.tokens[0]
        self.warm(prefixes, others)
        # Tokens that are images stay what they are: the rows may part later than where they were cut.
        cut = min(_alike(others, self.tokens), self.length - 1)
        return [self.moved(prefixes, others), *self.rest(prefixes, ExecutionPath.PREFIX_PARTED, cut)]

    def moved(self, prefixes: PrefixCache, cached: Tensor) -> Check:
        """What is cached as a later block begins another prompt: it was computed at other positions."""
        later = torch.cat((cached[:, PAGE_TOKENS:], cached[:, :2]), dim=1)
        cache, matched = prefixes.open(later, self.length)
        prefixes.close(cache)
        wrong = abs(matched - min(_alike(later, cached[:, : later.shape[1]]), later.shape[1] - 1))
        return counted(ExecutionPath.PREFIX_MOVED, "reused tokens", wrong, f"{matched} reused")

    def evicted(self) -> list[Check]:
        """Others pass through a pool that cannot keep both; whatever is left of ours is reused, the rest computed."""
        prefixes = self.pool(1, spare=self.batch)
        self.warm(prefixes, self.tokens)
        self.warm(prefixes, self.other(1))
        return self.rest(prefixes, ExecutionPath.PREFIX_EVICTED, None)

    def held(self) -> list[Check]:
        """While our rows are open, others fill the rest of the pool twice: nothing of ours may go. What is cached ends
        inside a block, which nobody holds and which goes first; the block before it is held, and older than theirs."""
        prefixes = self.pool(2)
        cut = (self.start + self.length) // 2
        cut += cut % PAGE_TOKENS == 0
        self.warm(prefixes, self.tokens[:, :cut])
        others = (self.other(1), self.other(2))
        return self.rest(prefixes, ExecutionPath.PREFIX_HELD, cut, others)

    def repainted(self) -> list[Check]:
        """The same tokens are cached with other pixels: what lies before the first image may be reused, no more."""
        if self.inputs.pixels is None:
            return []
        prefixes = self.pool(2)
        cache, matched = reopened(self.model, prefixes, replace(self.inputs, pixels=-self.inputs.pixels), self.length)
        self.model(self.tokens[:, matched:], cache)
        prefixes.close(cache)
        first = int(self.inputs.shows().int().argmax(1)[self.inputs.shows().any(1)].min())
        return self.rest(prefixes, ExecutionPath.PREFIX_OTHER_IMAGES, first)

    def told_apart(self) -> list[Check]:
        """Large images that differ in their very last value: no token of the last one may be found as the other's, and
        each before it must be."""
        if self.inputs.pixels is None:
            return []
        pixels = self.inputs.pixels.repeat(1, MAGNIFIED)
        changed = pixels.clone()
        changed[-1, -1] += 1
        images = (replace(self.inputs, pixels=each) for each in (pixels, changed))
        named = [self.model.prefixes.symbols(self.tokens, inputs=each) for each in images]
        rows = [[one == other for one, other in zip(*row, strict=True)] for row in zip(*named, strict=True)]
        alike = torch.tensor(rows, device=self.tokens.device)
        wrong = int((alike == self.last_image()).sum())
        return [counted(ExecutionPath.PREFIX_NEAR_IMAGE, "tokens told apart", wrong)]

    def last_image(self) -> Tensor:
        """Where [B, T] the last image of the last row that shows one stands."""
        shows = self.inputs.shows()
        row = int(shows.any(1).nonzero()[-1])
        end = int(shows[row].nonzero()[-1]) + 1
        texts = (~shows[row, :end]).nonzero()
        last = torch.zeros_like(shows)
        last[row, int(texts[-1]) + 1 if len(texts) else 0 : end] = True
        return last

    def wiped(self) -> list[Check]:
        """Text that finds its beginning, on a cache that showed images to those before it and on one that did not."""
        if self.inputs.pixels is None:
            return []
        text = self.tokens.masked_fill(self.inputs.shows(), 0)
        answers = []
        for shown in (True, False):
            prefixes = self.pool(4)
            self.read(prefixes, text[:, : self.start])
            if shown:
                # Of a row without images nothing may be found that was computed in other company: it is other bits.
                self.warm(prefixes, self.other(1))
            answers.append(self.read(prefixes, text))
        wrong = int(differs(*answers).sum())
        return [counted(ExecutionPath.PREFIX_AFTER_IMAGES, "logits of the last token", wrong, rule="exact")]

    def read(self, prefixes: PrefixCache, text: Tensor) -> Tensor:
        """The last logits of tokens without images."""
        cache, matched = prefixes.open(text, self.length)
        out = self.model(text[:, matched:], cache, keep=1)
        prefixes.close(cache)
        return out

    def padded(self) -> list[Check]:
        """Rows behind left padding, of which nothing is cached; then without it, in the cache that held them; then
        behind it again, on what is cached of them. Padding is no text: the same tokens without it find nothing."""
        padded, bare = Padded.unlike(self.tokens), Padded.of(self.tokens, [0] * self.batch)
        prefixes = self.pool(3, spare=3 * self.batch * (-(-padded.slots // PAGE_TOKENS) - self.columns))
        prompt = self.start + padded.most
        checks = [
            *self.behind(prefixes, ExecutionPath.PREFIX_PADDED, padded, prompt, padded.slots, 0),
            *self.behind(prefixes, ExecutionPath.PREFIX_UNPADDED, bare, self.start, padded.slots, 0),
            *self.behind(prefixes, ExecutionPath.PREFIX_HIT_PADDED, padded, padded.slots, padded.slots, prompt),
        ]
        cache, matched = prefixes.open(padded.tokens, padded.slots)
        prefixes.close(cache)
        return [*checks, counted(ExecutionPath.PREFIX_LIKE_PADDING, "reused tokens", matched)]

    def behind(
        self, prefixes: PrefixCache, path: str, rows: Padded, told: int, capacity: int, expected: int
    ) -> list[Check]:
        """Open the first `told` slots, compute those that are not cached, decode the next one, if there is one."""
        inputs = self.inputs.continued(rows.tokens[:, :told])
        cache, matched = reopened(self.model, prefixes, inputs, capacity, rows.left_padding)
        ours = self.model(inputs.tokens[:, matched:], cache)
        following = rows.tokens[:, told : told + 1]
        if following.numel():
            ours = torch.cat((ours, self.model.decode(following, cache).unsqueeze(1)), dim=1)
        prefixes.close(cache)
        end = told + following.shape[1]
        upcast, plain = (rows.expected(logits, matched, end) for logits in (self.known.upcast, self.known.plain))
        check = judge_path(path, rows.spoken(ours, matched), Reference(upcast, plain))
        return [check, counted(path, "reused tokens", abs(matched - expected), f"{matched} of {expected}")]

    def other(self, distance: int) -> Tensor:
        """Another token in the place of every one that is text, smaller where there is one."""
        tokens = self.tokens
        moved = torch.where(tokens >= distance, tokens - distance, tokens + distance)
        for reserved in self.inputs.reserved:
            moved = moved.masked_fill(moved == reserved, 0)
        return torch.where(self.inputs.shows(), tokens, moved)

    def open(self, prefixes: PrefixCache, tokens: Tensor) -> OpenedPrefix:
        """A cache that knows all of `tokens`, and how many of them it holds."""
        return reopened(self.model, prefixes, self.inputs.continued(tokens), self.length)

    def warm(self, prefixes: PrefixCache, tokens: Tensor) -> None:
        cache, matched = self.open(prefixes, tokens)
        self.model(tokens[:, matched:], cache)
        prefixes.close(cache)

    def rest(
        self, prefixes: PrefixCache, path: str, expected: int | None, meanwhile: Sequence[Tensor] = ()
    ) -> list[Check]:
        """Open our tokens, let others pass, compute what is not cached, judge it, and see that no page that is still
        cached has changed."""
        before = prefixes.blocks()
        cache, matched = self.open(prefixes, self.tokens)
        for tokens in meanwhile:
            self.warm(prefixes, tokens)
        ours = self.model(self.tokens[:, matched:], cache)
        after = prefixes.blocks()
        changed = sum(bool(differs(after[kept], before[kept]).any()) for kept in after.keys() & before.keys())
        prefixes.close(cache)
        reference = Reference(self.known.upcast[:, matched:], self.known.plain[:, matched:])
        checks = [judge_path(path, ours, reference), counted(path, "pages", changed)]
        if expected is not None:
            checks.append(counted(path, "reused tokens", abs(matched - expected), f"{matched} of {expected}"))
        return checks


def _alike(one: Tensor, other: Tensor) -> int:
    """How many tokens of both [B, T] are equal at the beginning of every row."""
    return int((one == other).int().cumprod(1).sum(1).min())


def counted(path: str, name: str, wrong: int, where: str = "", rule: str = "count") -> Check:
    """That nothing of what `name` says is wrong."""
    return Check(level="path", subject=path, name=name, rule=rule, error=wrong, noise=0, limit=0, where=where)
