"""What a model is given: tokens, images, and what a vision tower makes of those."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


Grid = tuple[int, int, int]
"""Frames, rows and columns of an image in patches."""


@dataclass(frozen=True)
class ModelInputs:
    """One batch of prompts: tokens [B, T] int64 and, for a model that sees, the images of every row."""

    tokens: Tensor
    pixels: Tensor | None = None
    """Patch rows [patches, channels * frames * height * width] of all images, row after row; None without images."""
    grids: tuple[tuple[Grid, ...], ...] = ()
    """One tuple of grids per row of the batch; empty for a model of text alone."""
    image_token: int | None = None
    """The token that stands where an image's features go; None for a model of text alone."""

    reserved: tuple[int, ...] = ()
    """Tokens that stand for images and the like, which a greedy choice must not make: no forward pass takes them back
    as text."""

    def shows(self) -> Tensor:
        """[B, T] bool: where an image stands."""
        return self.tokens.eq(-1 if self.image_token is None else self.image_token)

    def continued(self, tokens: Tensor) -> ModelInputs:
        """The same images in other tokens: longer, shorter or padded."""
        return replace(self, tokens=tokens)

    def last_tokens(self) -> ModelInputs:
        """The last token of every row with nothing before it."""
        return replace(self, tokens=self.tokens[:, -1:], pixels=None, grids=((),) * len(self.grids))

    def row(self, index: int) -> ModelInputs:
        """Row `index` as a batch of one."""
        tokens = self.tokens[index : index + 1]
        if self.pixels is None:
            return replace(self, tokens=tokens, grids=self.grids[index : index + 1])
        ends = list(accumulate(sum(t * h * w for t, h, w in row) for row in self.grids))
        first = ends[index - 1] if index else 0
        pixels = self.pixels[first : ends[index]] if ends[index] > first else None
        return replace(self, tokens=tokens, pixels=pixels, grids=(self.grids[index],))

    def twice(self) -> ModelInputs:
        """Every row again, after all of them."""
        pixels = None if self.pixels is None else self.pixels.tile(2, 1)
        return replace(self, tokens=self.tokens.tile(2, 1), pixels=pixels, grids=self.grids * 2)

    def first(self, rows: int) -> ModelInputs:
        """The first `rows` rows."""
        tokens, grids = self.tokens[:rows], self.grids[:rows]
        if self.pixels is None:
            return replace(self, tokens=tokens, grids=grids)
        patches = sum(t * h * w for row in grids for t, h, w in row)
        return replace(self, tokens=tokens, pixels=self.pixels[:patches] if patches else None, grids=grids)

    def to(self, device: torch.device, dtype: torch.dtype) -> ModelInputs:
        """Tokens on `device`; pixels there too, rounded to `dtype`."""
        pixels = None if self.pixels is None else self.pixels.to(device=device, dtype=dtype)
        return replace(self, tokens=self.tokens.to(device), pixels=pixels)

    def overwrite(self, other: ModelInputs) -> None:
        """Another batch of the same layout into this one's memory."""
        self.tokens.copy_(other.tokens)
        if self.pixels is not None and other.pixels is not None:
            self.pixels.copy_(other.pixels)

    def keywords(self) -> dict[str, Tensor]:
        """What Hugging Face's forward takes beside the tokens: pixel_values, image_grid_thw [images, 3] and
        mm_token_type_ids [B, T]; nothing for text."""
        if self.pixels is None:
            return {}
        import torch

        grids = torch.tensor([grid for row in self.grids for grid in row], device=self.tokens.device)
        return {"pixel_values": self.pixels, "image_grid_thw": grids, "mm_token_type_ids": self.shows().int()}


@dataclass(frozen=True)
class Features:
    """What a vision tower makes of a batch's images: one row per image token, in the tokens' order."""

    embeddings: Tensor
    """[image tokens, H]: they stand in the place of the tokens' embeddings."""
    deep: tuple[Tensor, ...] = ()
    """Each [image tokens, H]: number i is added to the hidden states after decoder layer i."""
