"""Faults of a model that sees: its tower, where images stand, what they add to the tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.spec.model_inputs import Features, ModelInputs
from harness.spec.mutant import Mutant
from models.common.decoder.plant import inputs, method, on, output
from models.qwen3_vl_2b.grid import Patches
from models.qwen3_vl_2b.segments import Segments

BLOCK = 128
"""Patches that a kernel takes at once, at most."""


def _seen(change: Any) -> Any:
    """Other features than the tower's."""
    return lambda see, _, __: lambda prompt: change(see(prompt))


def _late(place: Any, _: Any, __: Any) -> Any:
    """What follows a prompt with images stands one place too far."""

    def faulty(cache: Any, prompt: ModelInputs, features: Features | None) -> None:
        place(cache, prompt, features)
        cache.offsets.add_(1)

    return faulty


def _axes(change: Any, name: str) -> Mutant:
    """The language model's keys and queries are turned by other positions [3, B, T]."""

    return on("rotary", inputs(lambda p: (change(p) if p.dim() == 3 else p,)), name, "position")


def _turns_by_time(model: Any) -> tuple[str, ...]:
    """The slowest frequency that belongs to the width turns by time: no short prompt shows it."""
    axis = model.rotary.axis.clone()
    axis[(axis == 2).nonzero()[-1]] = 0
    model.rotary.axis = axis
    return ("rotary.axis",)


def _one_segment(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> tuple[Any, ...]:
    return q, k, v, Segments((sum(segments.sizes),), q.device)


def _scaled(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    return lambda q, k, v, segments: forward(q * 1.05, k, v, segments)


def _as_long_as_the_last(forward: Any, module: nn.Module, model: nn.Module) -> Any:
    """No image is attended to past the blocks of patches that the last one fills."""

    def faulty(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
        out: Tensor = forward(q, k, v, segments)
        blocks = math.ceil(segments.sizes[-1] / BLOCK)
        for image in out.split(segments.sizes):
            image[blocks * BLOCK :] = 0
        return out

    return faulty


def _nearest(pixels: Tensor, at: Patches) -> tuple[Tensor, Patches]:
    """Positions are taken from the table's nearest entry."""
    largest = at.weights.argmax(1, keepdim=True)
    return pixels, replace(at, weights=torch.zeros_like(at.weights).scatter(1, largest, 1.0))


def _exchanged(at: Patches) -> tuple[Patches]:
    return (replace(at, rows=at.columns, columns=at.rows),)


VISION_MUTANTS: tuple[Mutant, ...] = (
    method("see", _seen(lambda f: replace(f, embeddings=f.embeddings.roll(1, 0))), "features one token away", "vision"),
    method("see", _seen(lambda f: replace(f, embeddings=0 * f.embeddings)), "images show nothing", "vision"),
    method("see", _seen(lambda f: replace(f, deep=f.deep[::-1])), "deep features in reverse", "vision"),
    method("see", _seen(lambda f: replace(f, deep=())), "deep features dropped", "vision"),
    method("place", _late, "text behind images one position too far", "position"),
    _axes(lambda p: p[[0, 2, 1]], "height and width exchanged"),
    _axes(lambda p: p[:1].expand_as(p), "time on every axis"),
    Mutant("slowest frequency of the width turned by time", "rotary", _turns_by_time),
    on("tower.embedding", inputs(_nearest), "tower: nearest position in the place of four", "vision"),
    on("tower.rotary", inputs(_exchanged), "tower: rows and columns exchanged", "rotary"),
    on("tower.blocks.0.attention.attend", inputs(_one_segment), "tower: images attend to each other", "mask"),
    on("tower.blocks.0.attention.attend", _as_long_as_the_last, "tower: images cut where the last one ends", "grid"),
    on("tower.blocks.0.attention.attend", _scaled, "tower: attention scale off by 5 %", "scale"),
    on("tower.blocks.0.mlp", output(lambda y: y * 1.01), "tower: feed-forward one percent too large", "scale"),
    on("tower.merger", output(lambda y: y * 1.01), "merger one percent too large", "scale"),
    on("tower.deep_mergers.0", output(lambda y: y.roll(1, 0)), "deep merger: rows one place away", "stride"),
)
