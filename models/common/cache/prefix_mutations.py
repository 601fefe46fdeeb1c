"""Faults of a pool of shared prefixes: what is found, what is copied, what is kept, what is evicted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.spec.mutant import Mutant
from harness.spec.runtime import OpenedPrefix
from models.common.cache.prefixes import PADDING, Prefixes
from models.common.decoder.swap import attach

Change = Callable[[Any], None]
"""Changes a pool in place."""


def pool(name: str, change: Change) -> Mutant:
    """A fault of the model's pool and of every pool that is made from it."""

    def plant(model: nn.Module) -> tuple[str, ...]:
        right = vars(model).get("prefixes")
        return attach(model, "prefixes", _changed(right, change)) if isinstance(right, Prefixes) else ()

    return Mutant(name, "prefix", plant)


def _changed(prefixes: Prefixes, change: Change) -> Any:
    faulty: Any = copy.copy(prefixes)
    resized = prefixes.resized
    faulty.resized = lambda pages, page_tokens: _changed(resized(pages, page_tokens), change)
    change(faulty)
    return faulty


def _never_found(prefixes: Any) -> None:
    walk = prefixes.tree._walk
    prefixes.tree._walk = lambda symbols: walk(symbols[:0])


def _whole_block_for_a_part(prefixes: Any) -> None:
    """A block that agrees in its first symbol is taken to agree in all but the last."""
    walk, size = prefixes.tree._walk, prefixes.page_tokens

    def faulty(symbols: Any) -> Any:
        found = walk(symbols)
        rest = len(symbols) - len(found.blocks) * size
        return type(found)(found.blocks, found.tail, min(size - 1, rest) if found.tail else 0)

    prefixes.tree._walk = faulty


def _found_by_its_end(prefixes: Any) -> None:
    """A block is known by itself, wherever it stands."""
    tree = prefixes.tree
    tree._child = lambda parent, symbols: next((node for node in tree.nodes() if node.symbols == symbols), None)


def _last_token_too(prefixes: Any) -> None:
    opened = prefixes.tree.open
    prefixes.tree.open = lambda rows, columns: opened([[*row, None] for row in rows], columns)


def _not_copied(prefixes: Any) -> None:
    prefixes._copy_tails = lambda leases: None


def _keys_alone_copied(prefixes: Any) -> None:
    copied = prefixes._copy_tails

    def faulty(leases: Any) -> None:
        values = [layer.values.clone() for layer in prefixes.layers]
        copied(leases)
        for layer, before in zip(prefixes.layers, values, strict=True):
            layer.values.copy_(before)

    prefixes._copy_tails = faulty


def _written_where_it_is_read(prefixes: Any) -> None:
    """A row goes on in the very block that others may read."""
    lease = prefixes.tree._lease

    def faulty(found: Any, matched: int, columns: int) -> Any:
        leases = lease(found, matched, columns)
        for one in leases:
            if one.copied is not None:
                first = len(one.shared)
                one.pages = (*one.pages[:first], one.copied, *one.pages[first + 1 :])
        return leases

    prefixes.tree._lease = faulty


def _pages_of_the_next_row(prefixes: Any) -> None:
    opened = prefixes.tree.open

    def faulty(rows: Any, columns: int) -> Any:
        leases, matched = opened(rows, columns)
        pages = [one.pages for one in leases]
        for one, other in zip(leases, pages[1:] + pages[:1], strict=True):
            one.pages = other
        return leases, matched

    prefixes.tree.open = faulty


def _not_held(prefixes: Any) -> None:
    prefixes.tree._hold = lambda nodes: None
    prefixes.tree._release = lambda nodes: None


def _free_and_kept(prefixes: Any) -> None:
    """What a closed row leaves in the tree is given to the next row as well."""
    closed = prefixes.tree.close

    def faulty(lease: Any, symbols: Any) -> None:
        closed(lease, symbols)
        kept = {node.page for node in prefixes.tree.nodes()}
        prefixes.tree.free[:0] = [page for page in lease.pages if page in kept]

    prefixes.tree.close = faulty


def _one_slot_short(prefixes: Any) -> None:
    opened = prefixes.open

    def faulty(*args: Any, **kwargs: Any) -> Any:
        cache, matched = opened(*args, **kwargs)
        if matched:
            cache.seq_lens -= 1
        return OpenedPrefix(cache, matched)

    prefixes.open = faulty


def _images_unseen(prefixes: Any) -> None:
    prefixes.symbols = lambda tokens, **seen: tokens.tolist()


def _images_by_their_beginning(prefixes: Any) -> None:
    """Of all images together the first 65,536 values are in the key."""
    right = prefixes.symbols

    def faulty(tokens: Any, inputs: Any = None) -> Any:
        if inputs is None or inputs.pixels is None:
            return right(tokens)
        pixels = inputs.pixels.clone(memory_format=torch.contiguous_format)
        pixels.view(-1)[1 << 16 :] = 0
        return right(tokens, inputs=replace(inputs, pixels=pixels))

    prefixes.symbols = faulty


def _kept_whole(prefixes: Any) -> None:
    """What a closed row was going to hold is kept, whether it was computed or not."""
    closed = prefixes.close

    def faulty(cache: Any, generated: Any = None) -> None:
        cache.length = cache.capacity
        closed(cache, generated)

    prefixes.close = faulty


def _remembered(prefixes: Any, state: Callable[[Any], tuple[Any, Tensor]], restore: Callable[..., None]) -> None:
    """What `state` told of a cache when it was closed comes back when it is opened again: a value and a tensor."""
    opened = prefixes.open

    def faulty(*args: Any, **kwargs: Any) -> Any:
        before = {cache: state(cache) for held in prefixes.closed.values() for cache in held}
        cache, matched = opened(*args, **kwargs)
        if cache in before:
            restore(cache, *before[cache])
        return OpenedPrefix(cache, matched)

    prefixes.open = faulty


def _sight_kept(prefixes: Any) -> None:
    """What images said to those before stays with a cache that is opened again."""

    def restore(cache: Any, sight: Any, offsets: Tensor) -> None:
        cache.sight = sight
        cache.offsets.copy_(offsets)

    _remembered(prefixes, lambda cache: (cache.sight, cache.offsets.clone()), restore)


def _padding_kept(prefixes: Any) -> None:
    """A cache that is opened again has the left padding of those before."""

    def restore(cache: Any, padded: bool, left_padding: Tensor) -> None:
        cache.padded = padded
        cache.left_padding.copy_(left_padding)

    _remembered(prefixes, lambda cache: (cache.padded, cache.left_padding.clone()), restore)


def _padding_unmasked(prefixes: Any) -> None:
    """Where the rows begin is known, and not that what lies before is to be hidden."""
    opened = prefixes.open

    def faulty(*args: Any, **kwargs: Any) -> Any:
        cache, matched = opened(*args, **kwargs)
        cache.padded = False
        return OpenedPrefix(cache, matched)

    prefixes.open = faulty


def _padding_as_text(prefixes: Any) -> None:
    """A slot of padding is taken to hold what a token of id 0 would."""
    tree = prefixes.tree
    opened, closed = tree.open, tree.close

    def text(symbols: Any) -> list[Any]:
        return [0 if symbol == PADDING else symbol for symbol in symbols]

    tree.open = lambda rows, columns: opened([text(row) for row in rows], columns)
    tree.close = lambda lease, symbols: closed(lease, text(symbols))


def _collisions_believed(prefixes: Any) -> None:
    """All whole blocks after the same prefix have one hash, and nobody compares what they hold."""
    size = prefixes.page_tokens
    prefixes.tree._child = lambda parent, _: next((node for node in parent.children if len(node.symbols) == size), None)


PREFIX_MUTANTS = (
    pool("prefix never found", _never_found),
    pool("block taken whole for its first token", _whole_block_for_a_part),
    pool("block known wherever it stands", _found_by_its_end),
    pool("blocks of equal hash taken to be equal", _collisions_believed),
    pool("last token of a prompt reused", _last_token_too),
    pool("part of a block not copied", _not_copied),
    pool("keys of a block copied, values not", _keys_alone_copied),
    pool("shared block written", _written_where_it_is_read),
    pool("pages of the next row", _pages_of_the_next_row),
    pool("blocks in use evicted", _not_held),
    pool("kept blocks given away", _free_and_kept),
    pool("one slot short after a hit", _one_slot_short),
    pool("kept before it is computed", _kept_whole),
    pool("padding seen behind a prefix", _padding_unmasked),
    pool("padding of those before remembered", _padding_kept),
    pool("padding equal to a token", _padding_as_text),
)
IMAGE_PREFIX_MUTANTS = (
    *PREFIX_MUTANTS,
    pool("images left out of the key", _images_unseen),
    pool("images known by their beginning", _images_by_their_beginning),
    pool("images of those before remembered", _sight_kept),
)
"""Of a model that sees."""
