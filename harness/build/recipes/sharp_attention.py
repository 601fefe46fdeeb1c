"""Heads of attention that differ: some hold on to the first token, some to the few best keys, some look at all alike.

The first token as a sink: Xiao et al. 2023. What differs between heads is made in channels that rotate slowly, so that
it holds at any distance.
"""

from __future__ import annotations

import math
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.build.inputs import generator
from harness.build.recipes.residual_stream import Stream


class Kind(NamedTuple):
    """How a head of queries looks at keys."""

    sink: float
    """How far its queries point to the sink, in units of the length of a query."""
    sharp: float
    """Factor on its channels that rotate slowly."""


KINDS = (Kind(1.25, 0.125), Kind(0.0, 4.0), Kind(0.4, 1.0), Kind(0.0, 0.125))
"""In turns: nothing but the sink, sharp, half at the sink, flat."""
SINK_NORM, SHARP_NORM, NORM_SPREAD = 1.25, 1.6, 0.3
"""Factors on norm weights of heads, and the standard deviation of their logarithm."""


class Channels(NamedTuple):
    """Channels of a head by what the recipe makes of them."""

    sink: int
    slow: Tensor

    @classmethod
    def of(cls, frequencies: Tensor, head_dim: int) -> Channels:
        """By the frequencies [R / 2] with which the first R channels of a head rotate, half of them beside the other;
        channels past R do not rotate. The slowest pair is the sink's, the rest of the slower half is what is sharp."""
        speed = torch.zeros(head_dim)
        speed[: 2 * len(frequencies)] = frequencies.cpu().float().repeat(2)
        slow = speed.argsort(stable=True)[: head_dim // 2]
        return cls(int(slow[0]), slow[2:])


def point_queries(query: nn.Module, channels: Channels, head_dim: int, stream: Stream) -> None:
    """Make the heads of a projection of queries differ."""
    heads = query.get_parameter("weight").unflatten(0, (-1, head_dim))
    for head, kind in zip(heads, cycle(KINDS), strict=False):
        head[channels.slow] *= kind.sharp
        head[channels.sink, stream.bias] = kind.sink * math.sqrt(head_dim)


def point_keys(key: nn.Module, channels: Channels, head_dim: int, stream: Stream) -> None:
    """Make the sink's key of every head point where queries point to."""
    heads = key.get_parameter("weight").unflatten(0, (-1, head_dim))
    heads[:, channels.sink, stream.massive] = math.sqrt(head_dim)


def spread_norm(norm: nn.Module, channels: Channels, seed: int, purpose: str) -> None:
    """Weight the channels of a head unequally, those that differ between heads the most."""
    weight = norm.get_parameter("weight")
    drawn = torch.randn(len(weight), generator=generator(seed, purpose))
    drawn[channels.sink] = 0
    weight.mul_(torch.exp(NORM_SPREAD * drawn).to(weight))
    weight[channels.slow] *= SHARP_NORM
    weight[channels.sink] *= SINK_NORM
