"""Faults of the key-value cache and of what is kept between steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import CacheFull
from harness.spec.mutant import Mutant
from models.common.cache.kv_cache import LayerCache, Slots
from models.common.decoder.plant import Around, at, method

Rows = Callable[[Slots], dict[str, Any]]


def _writing(change: Rows) -> Around:
    """Keys and values go where other slots would have put them."""

    def around(forward: Any, module: nn.Module, model: nn.Module) -> Any:
        def faulty(*args: Any) -> Any:
            *given, slots = args
            return forward(*given, replace(slots, kept={}, **change(slots)))

        return faulty

    return around


def _reading(change: Callable[[LayerCache, Slots], tuple[LayerCache, Slots]]) -> Around:
    def around(forward: Any, module: nn.Module, model: nn.Module) -> Any:
        return lambda q, cache, slots: forward(q, *change(cache, slots))

    return around


def _kept(part: str) -> Around:
    """While decoding, the new keys (or values) never arrive in the cache."""

    def around(forward: Any, module: nn.Module, model: nn.Module) -> Any:
        def faulty(*args: Any) -> Any:
            cache, slots = args[-2:]
            if slots.tokens > 1:
                return forward(*args)
            pages, offsets = slots.places
            memory = getattr(cache, part)
            before = memory[pages, :, offsets].clone()
            out = forward(*args)
            memory[pages, :, offsets] = before
            return out

        return faulty

    return around


def _rounded(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    """Values are kept in bfloat16."""

    def faulty(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Any:
        lower = torch.empty_strided(v.shape, v.stride(), dtype=v.dtype, device=v.device)
        return forward(q, k, lower.copy_(v.bfloat16()), *rest)

    return faulty


def _chunk_ahead(forward: Any, module: nn.Module, model: Any) -> Any:
    """A chunk after the first is rotated one position too far."""

    def faulty(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: Any, slots: Slots) -> Any:
        if 1 < slots.tokens < slots.max_len and not slots.masked:
            cos, sin = model.rotary(slots.positions() + 1)
        return forward(q, k, v, cos, sin, cache, slots)

    return faulty


def _early(slots: Slots) -> dict[str, Any]:
    return {"seq_lens": (slots.seq_lens - 1).clamp_min(1)} if slots.tokens == 1 else {}


def _other_row(slots: Slots) -> dict[str, Any]:
    return {"block_table": slots.block_table.flip(0)}


def _first_page(slots: Slots) -> dict[str, Any]:
    return {"block_table": slots.block_table[:, :1].expand_as(slots.block_table).contiguous()}


def _short(slots: Slots) -> dict[str, Any]:
    return {"seq_lens": slots.seq_lens.clamp_max(24), "masked": True} if slots.tokens == 1 else {}


def _pages_exchanged(cache: LayerCache, slots: Slots) -> tuple[LayerCache, Slots]:
    return cache, replace(slots, block_table=slots.block_table.flip(1).contiguous(), kept={})


def _keys_for_values(cache: LayerCache, slots: Slots) -> tuple[LayerCache, Slots]:
    return replace(cache, values=cache.keys), slots


def _first_tokens(decode: Any, _: Any, __: Any) -> Any:
    """A captured step whose input was never written again: it answers for the first token it saw."""
    seen: dict[int, Tensor] = {}

    def stale(tokens: Tensor, cache: Any) -> Tensor:
        return decode(seen.setdefault(id(cache), tokens.clone()), cache)

    return stale


def _last_answer(decode: Any, _: Any, __: Any) -> Any:
    """The answer is read before the step has finished: it is the previous one."""
    seen: dict[int, Tensor] = {}

    def stale(tokens: Tensor, cache: Any) -> Tensor:
        now: Tensor = decode(tokens, cache).clone()
        before = seen.get(id(cache), now)
        seen[id(cache)] = now
        return before

    return stale


def _first_row(decode: Any, _: Any, __: Any) -> Any:
    return lambda tokens, cache: decode(tokens, cache)[:1].expand(tokens.shape[0], -1).clone()


def _answer_by_shape(forward: Any, _: Any, __: Any) -> Any:
    """The first answer for a shape is given again."""
    seen: dict[tuple[Any, ...], Tensor] = {}

    def cached(tokens: Tensor, *rest: Any, **options: Any) -> Tensor:
        now = forward(tokens, *rest, **options)
        return seen.setdefault((tuple(tokens.shape), repr(options)), now).clone()

    return cached


def _unpadded(new_cache: Any, _: Any, __: Any) -> Any:
    """Left padding is not told to the cache: it counts as text."""
    return lambda batch, capacity, left_padding=None: new_cache(batch, capacity)


def _counted_first(new_cache: Any, _: Any, __: Any) -> Any:
    """A call is counted before it is refused for want of room."""

    def faulty(*args: Any, **kwargs: Any) -> Any:
        cache = new_cache(*args, **kwargs)
        extend = cache.extend

        def counted(tokens: int) -> Slots:
            try:
                slots: Slots = extend(tokens)
            except CacheFull:
                cache.length += tokens
                cache.seq_lens += tokens
                raise
            return slots

        cache.extend = counted
        return cache

    return faulty


def _one_buffer(forward: Any, _: Any, __: Any) -> Any:
    """Answers of one shape lie in one buffer: the next one overwrites what its caller still holds."""
    kept: dict[torch.Size, Tensor] = {}

    def faulty(*args: Any, **kwargs: Any) -> Tensor:
        now: Tensor = forward(*args, **kwargs)
        return kept.setdefault(now.shape, torch.empty_like(now)).copy_(now)

    return faulty


CACHE_MUTANTS: tuple[Mutant, ...] = (
    at("attention.rotary", _kept("keys"), "decode: key slot stale", "cache"),
    at("attention.rotary", _kept("values"), "decode: value slot stale", "cache"),
    at("attention.rotary", _kept("values"), "last layer: decode: value slot stale", "cache", last=True),
    at("attention.rotary", _writing(_early), "decode: written one slot early", "cache"),
    at("attention.rotary", _writing(_other_row), "written to another sequence", "cache"),
    at("attention.rotary", _writing(_first_page), "every page is the first", "cache"),
    at("attention.rotary", _rounded, "values kept in bfloat16", "downgrade"),
    at("attention.rotary", _chunk_ahead, "chunk one position too far", "position"),
    at("attention.attend", _writing(_short), "decode: keys past the 24th unread", "cache"),
    at("attention.attend", _reading(_pages_exchanged), "pages read in reverse", "cache"),
    at("attention.attend", _reading(_keys_for_values), "keys read as values", "cache"),
    method("new_cache", _unpadded, "padding counted as text", "mask"),
    method("new_cache", _counted_first, "counted before it is refused", "cache"),
    method("decode", _first_tokens, "step replays its first input", "cached"),
    method("decode", _last_answer, "step answers for the one before", "stale"),
    method("decode", _first_row, "decode: every sequence gets the first one's answer", "batch"),
    method("forward", _answer_by_shape, "answer cached by shape", "cached"),
    method("forward", _one_buffer, "answers in one buffer", "stale"),
)
