"""Where every token stands on three axes: time, height, width. Exact integers, computed on the host.

A text token advances all axes by one. An image that begins at position p gives its merged patch at (frame, row, column)
the positions (p + frame, p + row, p + column); what follows goes on at p + max(rows, columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import InputError
from harness.spec.model_inputs import Grid, ModelInputs
from models.qwen3_vl_2b.config import Geometry
from models.qwen3_vl_2b.grid import check_grid


@dataclass(frozen=True)
class Places:
    """Of a prompt [B, T], on the CPU."""

    positions: Tensor
    """[3, B, T] int64; 0 on padding."""
    features: Tensor
    """[B, T] int64: which row of the image features stands there; -1 for text."""
    offsets: Tensor
    """[B] int64: a later token's position less its number in the row."""


def places(inputs: ModelInputs, padding: Sequence[int], g: Geometry) -> Places:
    """`padding[b]` tokens of row b are left padding. Raises InputError where images and image tokens do not match."""
    tokens = inputs.tokens.cpu()
    batch, length = tokens.shape
    if len(inputs.grids) != batch:
        raise InputError(f"images of {len(inputs.grids)} rows were given with tokens of {batch}")
    positions = torch.zeros(3, batch, length, dtype=torch.int64)
    features = torch.full((batch, length), -1, dtype=torch.int64)
    offsets = torch.zeros(batch, dtype=torch.int64)
    seen = 0
    for row, (start, grids) in enumerate(zip(padding, inputs.grids, strict=True)):
        runs = image_runs(tokens[row], start, grids, g, row)
        positions[:, row, start:] = _row_positions(length - start, [run - start for run in runs], grids, g.vision.merge)
        offsets[row] = int(positions[:, row].max()) + 1 - (length - start)
        for run, grid in zip(runs, grids, strict=True):
            size = image_tokens(grid, g.vision.merge)
            features[row, run : run + size] = torch.arange(seen, seen + size)
            seen += size
    return Places(positions, features, offsets)


def image_tokens(grid: Grid, merge: int) -> int:
    frames, height, width = grid
    return frames * height * width // merge**2


def image_runs(tokens: Tensor, start: int, grids: Sequence[Grid], g: Geometry, row: int) -> list[int]:
    """First slot of every image of one row of tokens [T]; from there on, all of its tokens are the image token."""
    if bool((tokens[start:] == g.video_token).any()):
        raise InputError(f"row {row} holds the video token {g.video_token}: only images are implemented")
    places = (tokens[start:] == g.image_token).nonzero().flatten() + start
    sizes = []
    for grid in grids:
        check_grid(grid, g.vision.merge)
        sizes.append(image_tokens(grid, g.vision.merge))
    if sum(sizes) != len(places):
        raise InputError(
            f"row {row} holds {len(places)} image tokens and its {len(grids)} images take {sum(sizes)}: "
            "features would stand in the wrong places"
        )
    runs = []
    for size, run in zip(sizes, places.split(sizes), strict=True):
        if int(run[-1]) - int(run[0]) != size - 1:
            raise InputError(f"row {row}: the {size} tokens of an image at slot {int(run[0])} are interrupted")
        runs.append(int(run[0]))
    return runs


def _row_positions(length: int, runs: Sequence[int], grids: Sequence[Grid], merge: int) -> Tensor:
    """[3, length] int64 of one row, padding left out."""
    parts: list[Tensor] = []
    at = position = 0
    for run, grid in zip(runs, grids, strict=True):
        parts.append(_text(position, run - at))
        position += run - at
        frames, rows, columns = grid[0], grid[1] // merge, grid[2] // merge
        axes = torch.meshgrid(torch.arange(frames), torch.arange(rows), torch.arange(columns), indexing="ij")
        parts.append(torch.stack(axes).flatten(1) + position)
        position += max(rows, columns)
        at = run + frames * rows * columns
    parts.append(_text(position, length - at))
    return torch.cat(parts, dim=1)


def _text(position: int, tokens: int) -> Tensor:
    return torch.arange(position, position + tokens).expand(3, -1)
