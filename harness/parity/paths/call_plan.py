"""Calls in an order that no single path has, and what each cache must then hold. Pure: no model is called here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

Choose = Callable[[int, int], int]
"""From and to, both inclusive -> a number between: a seeded generator's, or one that a test draws and shrinks."""
Text = tuple[int, ...]
"""Token ids."""
OPEN_AT_ONCE = 3
"""Caches that are in use beside each other, at most."""
ROWS = 2
"""Of a cache, at most: of few kinds, so that caches of one kind are open beside each other."""
MOST_PADDING = 3
MOST_DECODED = 4
"""Tokens that one step decodes, at most."""
PADDING = -1
"""The symbol of a slot of left padding."""


@dataclass(frozen=True)
class Step:
    """One call, and the text of every row of its cache behind it."""

    does: Literal["open", "chunk", "decode", "rewind", "close"]
    cache: int
    texts: tuple[Text, ...]
    """Without padding."""
    count: int = 0
    """Slots: of the prompt, of the chunk, decoded one by one, or kept by a rewind."""
    padding: Text = ()
    """Of an opened cache: slots before the first token of each row."""
    pooled: bool = False
    """Of an opened or closed cache: whether its pages are those of shared prefixes."""
    reusable: int = 0
    """Of an opened cache: how many slots of every row are kept from before."""
    generated: tuple[Text, ...] = ()
    """Of a closed cache: the tokens behind each prompt that are to be kept, too."""

    def told(self) -> str:
        """`decode 3 on cache 1`."""
        shared = " shared" if self.pooled else ""
        padded = f" padded {self.padding}" if any(self.padding) else ""
        kept = " with what it generated" if self.generated else ""
        return f"{self.does}{shared} {self.count or ''} on cache {self.cache}{padded}{kept}".replace("  ", " ")


@dataclass
class _Live:
    """A cache in use: for each row its text, which stream it goes on with, and its padding."""

    texts: list[list[int]]
    streams: list[int]
    padding: Text
    pooled: bool
    named: int
    """Slots whose tokens the pool was told of."""
    least: int
    """Slots that a rewind must leave."""

    @property
    def slots(self) -> int:
        return len(self.texts[0]) + self.padding[0]

    def held(self) -> tuple[Text, ...]:
        return tuple(map(tuple, self.texts))


@dataclass
class Planner:
    """Draws steps over `streams`, token ids of one length that begin alike. Where `pools`, some caches are opened on
    the pool of shared prefixes."""

    streams: Sequence[Sequence[int]]
    choose: Choose
    pools: bool
    live: dict[int, _Live] = field(default_factory=dict)
    kept: list[Text] = field(default_factory=list)
    """Symbols of every row that was closed: its padding, then its tokens."""
    opened: int = 0

    @property
    def length(self) -> int:
        """Slots of every cache."""
        return len(self.streams[0])

    def steps(self, count: int) -> list[Step]:
        """Draw so many steps, then close what is open and open once more what was closed last."""
        found = [self._step() for _ in range(count)]
        found += [self._close(number) for number in list(self.live)]
        return [*found, self._open()]

    def _step(self) -> Step:
        can: list[Callable[[], Step]] = []
        if len(self.live) < OPEN_AT_ONCE:
            can += [self._open]
        for number, cache in self.live.items():
            room = self.length - cache.slots
            if room:
                can += [partial(self._feed, number, "decode"), partial(self._feed, number, "chunk")]
            if cache.slots > cache.least:
                can += [partial(self._rewind, number)]
            can += [partial(self._close, number)]
        return can[self.choose(0, len(can) - 1)]()

    def _open(self) -> Step:
        number, pooled = self.opened, self.pools and self.choose(0, 3) > 0
        self.opened += 1
        count, slots, first = self._shape()
        streams = [self.choose(0, len(self.streams) - 1) for _ in range(count)]
        padded = self.choose(0, 1)
        rows = [self._row(stream, slots, padded * MOST_PADDING) for stream in streams]
        if first is not None:
            rows[0] = (first, list(self.streams[streams[0]][: slots - first]))
        padding, texts = tuple(pad for pad, _ in rows), [text for _, text in rows]
        reusable = min(slots - 1, *map(self._found, padding, texts)) if pooled else 0
        cache = _Live(texts, streams, padding, pooled, slots, max(reusable, max(padding) + 1))
        self.live[number] = cache
        return Step("open", number, cache.held(), slots, padding, pooled, reusable)

    def _shape(self) -> tuple[int, int, int | None]:
        """Rows, slots and padding of the first row, where it is fixed: now and then those of a cache that is open, so
        that what somebody remembers by shape or by the first row meets another of its like."""
        alike = [c for c in self.live.values() if MOST_PADDING < c.slots < self.length]
        if alike and self.choose(0, 1):
            like = alike[self.choose(0, len(alike) - 1)]
            return len(like.texts), like.slots, like.padding[0]
        return self.choose(1, ROWS), self.choose(MOST_PADDING + 1, self.length - 1), None

    def _row(self, stream: int, slots: int, most_padding: int) -> tuple[int, list[int]]:
        """Padding and tokens of so many slots: a stream's, or behind those of a row that was closed."""
        known = self.kept[self.choose(0, len(self.kept) - 1)] if self.kept and self.choose(0, 1) else ()
        padding = known.count(PADDING) if known else self.choose(0, most_padding)
        text = list(known[padding:slots])
        return padding, text + list(self.streams[stream][len(text) : slots - padding])

    def _feed(self, number: int, does: Literal["decode", "chunk"]) -> Step:
        cache = self.live[number]
        room = self.length - cache.slots
        count = self.choose(1, min(room, MOST_DECODED if does == "decode" else room))
        for text, stream in zip(cache.texts, cache.streams, strict=True):
            text += self.streams[stream][len(text) : len(text) + count]
        return Step(does, number, cache.held(), count)

    def _rewind(self, number: int) -> Step:
        """Back to an earlier slot; what follows there is another text."""
        cache = self.live[number]
        slots = self.choose(cache.least, cache.slots - 1)
        cache.texts = [text[: slots - pad] for text, pad in zip(cache.texts, cache.padding, strict=True)]
        cache.streams = [(s + self.choose(0, len(self.streams) - 1)) % len(self.streams) for s in cache.streams]
        cache.named = min(cache.named, slots)
        return Step("rewind", number, cache.held(), slots)

    def _close(self, number: int) -> Step:
        cache = self.live.pop(number)
        generated: tuple[Text, ...] = ()
        if cache.pooled and cache.slots > cache.named and self.choose(0, 1):
            generated = tuple(t[cache.named - pad :] for t, pad in zip(cache.held(), cache.padding, strict=True))
        named = cache.slots if generated else min(cache.named, cache.slots)
        if cache.pooled:
            self.kept += [_symbols(pad, text)[:named] for pad, text in zip(cache.padding, cache.held(), strict=True)]
        return Step("close", number, cache.held(), 0, cache.padding, cache.pooled, 0, generated)

    def _found(self, padding: int, text: Sequence[int]) -> int:
        """Slots of a row that some closed one begins with, its padding among them."""
        asked = _symbols(padding, text)
        return max((common_length(asked, kept) for kept in self.kept), default=0)


def _symbols(padding: int, text: Sequence[int]) -> Text:
    return (*(PADDING,) * padding, *text)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the numbers that both begin with."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def longest(steps: Sequence[Step]) -> list[Text]:
    """Every text that some row held and that no other held text begins with: each held text is the beginning of one."""
    found: list[Text] = []
    for text in sorted({text for step in steps for text in step.texts}, key=len, reverse=True):
        if not any(other[: len(text)] == text for other in found):
            found.append(text)
    return found


def without(steps: Sequence[Step], cache: int) -> list[Step]:
    """The same plan without one cache; others may find less in the pool then."""
    return [step for step in steps if step.cache != cache]
