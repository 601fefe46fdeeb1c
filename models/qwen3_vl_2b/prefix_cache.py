"""What makes two prefixes equal: their token ids and, where an image stands, its content and its size.

Where tokens stand follows from the same symbols, so equal prefixes turn their keys alike; a prompt that goes on behind
one is told its own positions and offset, as any prompt with images is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from harness.spec.model_inputs import Grid, ModelInputs
from models.common.cache.prefix_mutations import IMAGE_PREFIX_MUTANTS
from models.common.cache.prefix_tree import BlockKey
from models.common.cache.prefixes import prefix_caching


def symbols(tokens: Tensor, inputs: ModelInputs | None = None) -> list[list[BlockKey]]:
    """tokens [B, T] -> a row of symbols for each row: a text token's id, and for a token of an image which part of
    which image it is. `inputs` is the prompt whose images these are; without it, all is text."""
    rows: list[list[BlockKey]] = tokens.tolist()
    if inputs is None or inputs.pixels is None:
        return rows
    shown = inputs.shows()
    images = _digests(inputs.pixels, inputs.grids)
    unit = inputs.pixels.shape[0] // int(shown.sum())
    named = (_parts(row, grids, unit) for row, grids in zip(images, inputs.grids, strict=True))
    return [
        [next(parts) if image else token for token, image in zip(row, places, strict=True)]
        for row, places, parts in zip(rows, shown.tolist(), named, strict=True)
    ]


def _parts(images: list[str], grids: tuple[Grid, ...], unit: int) -> Iterator[BlockKey]:
    """One symbol for each token of a row's images, each of `unit` patches."""
    return ((image, part) for image, grid in zip(images, grids, strict=True) for part in range(math.prod(grid) // unit))


def _digests(pixels: Tensor, grids: tuple[tuple[Grid, ...], ...]) -> list[list[str]]:
    """Row by row, what tells each image from any other: its values in their type, and its size."""
    raw = pixels.contiguous().view(torch.uint8).cpu().split([math.prod(grid) for row in grids for grid in row])
    parts = iter(raw)
    return [
        [hashlib.sha256(f"{grid} {pixels.dtype}".encode() + next(parts).numpy().tobytes()).hexdigest() for grid in row]
        for row in grids
    ]


PREFIX_CACHING = prefix_caching(symbols, default_tokens=64, pool_tokens=32768, mutants=IMAGE_PREFIX_MUTANTS)
"""The pool is 3.5 GiB at the full size, reserved when the first prefix is opened."""
