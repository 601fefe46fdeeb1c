"""Prompts with images, drawn: where images stand and how large they are follows from the shape that is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.errors import InputError
from harness.spec.hf_config import HFConfig
from harness.spec.model_inputs import Grid, ModelInputs
from models.qwen3_vl_2b.config import Geometry, geometry
from models.qwen3_vl_2b.positions import image_tokens

IMAGE_SHARE = 0.75
"""Of a prompt's tokens, at most, that its images and their marks take."""
ASPECTS = (3.0, 0.5, 1.4)
"""Height over width of a row's first, second and third image, and from there again: no two axes alike."""


def inputs(config: HFConfig, tokens: int, images: Sequence[int], generator: torch.Generator) -> ModelInputs:
    """Row b of `tokens` tokens shows images[b] images, each between its vision marks, text around them. Raises
    InputError where they do not fit."""
    g = geometry(config)
    marks = (int(config["vision_start_token_id"]), int(config["vision_end_token_id"]))
    grids = tuple(tuple(_grids(tokens, count, g)) for count in images)
    drawn = torch.randint(_ordinary(config), (len(images), tokens), generator=generator)
    for row, row_grids in zip(drawn, grids, strict=True):
        _mark(row, row_grids, g, marks)
    reserved = (g.image_token, g.video_token)
    patches = sum(math.prod(grid) for row in grids for grid in row)
    if not patches:
        return ModelInputs(drawn, None, grids, g.image_token, reserved)
    return ModelInputs(drawn, _pixels(patches, g.vision.patch_size, generator), grids, g.image_token, reserved)


def _grids(tokens: int, count: int, g: Geometry) -> list[Grid]:
    merge = g.vision.merge
    made = []
    for index, share in enumerate(_shares(count)):
        room = int(IMAGE_SHARE * tokens) * share // (count * (count + 1) // 2) - 2
        if room < 2:
            raise InputError(f"{count} images and their marks do not fit into {tokens} tokens")
        height = max(1, min(room, round(math.sqrt(room * ASPECTS[index % len(ASPECTS)]))))
        made.append((1, merge * height, merge * (room // height)))
    return made


def _shares(count: int) -> list[int]:
    """Each next image larger, but the largest before the last of three or more: what is cut for the first, or for the
    last, would not do for the others."""
    shares = list(range(1, count + 1))
    if count > 2:
        shares[-2:] = reversed(shares[-2:])
    return shares


def _mark(row: Tensor, grids: Sequence[Grid], g: Geometry, marks: tuple[int, int]) -> None:
    """Spread images over a row of tokens, in place, with as much text before each as after the last."""
    sizes = [image_tokens(grid, g.vision.merge) for grid in grids]
    text = (len(row) - sum(sizes) - 2 * len(sizes)) // (len(sizes) + 1)
    at = 0
    for size in sizes:
        at += text
        row[at] = marks[0]
        row[at + 1 : at + 1 + size] = g.image_token
        row[at + 1 + size] = marks[1]
        at += size + 2


def _pixels(patches: int, values: int, generator: torch.Generator) -> Tensor:
    """[patches, values] float32 in [-1, 1]: bytes as the preprocessor normalizes them, mean and deviation a half."""
    drawn = torch.randint(256, (patches, values), generator=generator, dtype=torch.uint8)
    return drawn.float() / 127.5 - 1


def _ordinary(config: HFConfig) -> int:
    """Token ids below this are no special ones."""
    text = config["text_config"]
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    special = [config[name] for name in names]
    special += [text[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if text.get(name) is not None]
    return int(min([text["vocab_size"], *special]))
