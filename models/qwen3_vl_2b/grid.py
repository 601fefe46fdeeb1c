"""What follows from image grids alone. Patches come in merge order: block after block of merge x merge patches, rows of
blocks first, the whole image once for each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from harness.errors import InputError
from harness.spec.model_inputs import Grid
from models.qwen3_vl_2b.config import VisionGeometry


@dataclass(frozen=True)
class Patches:
    """Where the patches of all images lie, on one device."""

    rows: Tensor
    """[patches] int64"""
    columns: Tensor
    taps: Tensor
    """[patches, 4] int64: neighbors in the learned position table."""
    weights: Tensor
    """[patches, 4] float32, adding to 1."""
    segments: tuple[int, ...]
    """Patches of each frame: a patch attends to its own frame alone."""


def check_grid(grid: Grid, merge: int) -> None:
    frames, height, width = grid
    if frames < 1 or height < merge or width < merge or height % merge or width % merge:
        raise InputError(f"an image of {grid} patches cannot be merged in squares of {merge} x {merge}")


def patches(grids: Sequence[Grid], g: VisionGeometry, device: torch.device) -> Patches:
    """Raises InputError for an image that does not divide into merge blocks."""
    places, taps, weights = zip(*(_image(grid, g.merge, g.side, device) for grid in grids), strict=True)
    rows, columns = torch.cat(places).unbind(1)
    segments = tuple(height * width for frames, height, width in grids for _ in range(frames))
    return Patches(rows, columns, torch.cat(taps), torch.cat(weights), segments)


@lru_cache(maxsize=256)
def _image(grid: Grid, merge: int, side: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Places, taps and weights of one image; sizes recur from prompt to prompt."""
    check_grid(grid, merge)
    frames, height, width = grid
    place = _merge_order(height, width, merge, device).repeat(frames, 1)
    return place, *_bilinear(place, (height, width), side)


def _merge_order(height: int, width: int, merge: int, device: torch.device) -> Tensor:
    """[height * width, 2] int64: row and column of each patch of one frame."""
    place = torch.stack(
        torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"), dim=-1
    )
    blocks = place.view(height // merge, merge, width // merge, merge, 2)
    return blocks.transpose(1, 2).reshape(-1, 2)


def _bilinear(place: Tensor, size: tuple[int, int], side: int) -> tuple[Tensor, Tensor]:
    """place [N, 2] in an image of `size` -> indices [N, 4] into the flat side x side table and weights [N, 4]; the
    image's corners meet the table's."""
    extent = torch.tensor(size, device=place.device)
    source = place.float() * (side - 1) / (extent - 1).clamp_min(1)
    low = source.floor()
    # [N, axis, tap]
    tap = torch.stack((low, low + 1), dim=-1)
    weight = 1 - (source.unsqueeze(-1) - tap).abs()
    tap = tap.long().clamp_max(side - 1)
    indices = tap[:, 0, :, None] * side + tap[:, 1, None, :]
    return indices.flatten(1), (weight[:, 0, :, None] * weight[:, 1, None, :]).flatten(1)
