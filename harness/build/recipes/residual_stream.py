"""A residual stream with outlier channels, whose sizes are known before anything runs.

Trained models hold a few channels that are tens of times as large as the others for every token, and one that is
thousands of times as large for the first token alone (Dettmers et al. 2022; Sun et al. 2024). Norm weights shrink them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.build.inputs import generator

COMMON, COMMON_CHANNELS = 32.0, 2
"""Value that every token has in these channels, and how many there are. No layer writes to them: rounding a sum of that
size would drown what it adds to the others."""
COMMON_SPREAD = 0.1
MASSIVE = 512.0
"""Value of the first token alone, in one channel that no layer writes to."""
WRITTEN = 4.0
"""How many times as much as to others every layer writes to one channel."""
EMBEDDED, WRITE_GAIN, BLOCK_VARIANCE = 0.5, 0.5, 0.075
"""RMS of an embedding; how large what a block writes is against its last inputs; and the variance that it adds so,
outliers apart. The stream outweighs each block: rounding errors do not grow from layer to layer."""
NORM_SPREAD = 0.5
"""Standard deviation of the logarithm of norm weights."""
SINK_TOKEN = 1
"""The first token of every prompt, as a model's own first token is."""


@dataclass(frozen=True)
class Stream:
    """Hidden channels of which four are outliers."""

    hidden: int
    common: Tensor
    """Channels [COMMON_CHANNELS]. Behind a norm that a layer reads through the first is about 1 for every token but the
    sink: what it is multiplied by acts as a bias."""
    massive: int
    """Behind such a norm about 1 for the sink, and about 0 for every other token."""
    written: int

    @classmethod
    def of(cls, hidden: int, seed: int) -> Stream:
        drawn = torch.randperm(hidden, generator=generator(seed, "outlier channels"))
        massive, written = drawn[COMMON_CHANNELS : COMMON_CHANNELS + 2].tolist()
        return cls(hidden, drawn[:COMMON_CHANNELS], massive, written)

    @property
    def bias(self) -> int:
        """The channel that acts as one."""
        return int(self.common[0])

    def ordinary(self, blocks: int) -> float:
        """RMS of an ordinary channel behind so many blocks."""
        return math.sqrt(EMBEDDED**2 + blocks * BLOCK_VARIANCE)

    def whole(self, blocks: int) -> float:
        """RMS of all channels of an ordinary token behind so many blocks."""
        outliers = len(self.common) * COMMON**2 + WRITTEN**2 * blocks * BLOCK_VARIANCE
        return math.sqrt(outliers / self.hidden + self.ordinary(blocks) ** 2)

    def embed(self, table: Tensor, seed: int) -> None:
        """Scale a table [vocab, H] of embeddings and give it the outlier channels."""
        table.mul_(EMBEDDED / rms(table))
        spread = torch.randn(len(table), len(self.common), generator=generator(seed, "common channels"))
        table[:, self.common.to(table.device)] = (COMMON * (1 + COMMON_SPREAD * spread)).to(table)
        table[:, self.massive] = 0
        table[SINK_TOKEN, self.massive] = MASSIVE

    def embed_images(self, linear: nn.Module, gain: float) -> None:
        """Make the output of a linear module like embeddings of ordinary tokens, its inputs of the RMS `gain`."""
        self.add_images(linear, EMBEDDED / gain)
        linear.get_parameter("bias")[self.common] = COMMON

    def add_images(self, linear: nn.Module, gain: float = WRITE_GAIN) -> None:
        """Have a linear module write in proportion to its inputs, nothing to the common and the massive channels."""
        weight, bias = linear.get_parameter("weight"), linear.get_parameter("bias")
        unit_gain(weight)
        weight.mul_(gain)
        for held in (weight, bias.mul_(gain)):
            held[self.common] = 0
            held[self.massive] = 0

    def write(self, weight: Tensor) -> None:
        """Have weights [..., H, K] write in proportion to their inputs, more to one channel, and none to the common and
        the massive ones."""
        unit_gain(weight)
        weight.mul_(WRITE_GAIN)
        weight[..., self.written, :] *= WRITTEN
        weight[..., self.common, :] = 0
        weight[..., self.massive, :] = 0

    def norm(self, weight: Tensor, blocks: int, seed: int, purpose: str, size: float = 1.0) -> None:
        """Spread norm weights [H] such that ordinary channels leave with the RMS `size`, and outliers no larger."""
        drawn = torch.randn(self.hidden, generator=generator(seed, purpose))
        spread = torch.exp(NORM_SPREAD * drawn - NORM_SPREAD**2)
        weight.mul_(spread.to(weight)).mul_(size * self.whole(blocks) / self.ordinary(blocks))
        weight[self.written] /= WRITTEN
        weight[self.common] = size * self.whole(blocks) / COMMON
        weight[self.massive] = size / math.sqrt(self.hidden)


def unit_gain(weight: Tensor) -> None:
    """Scale weights [..., N, K] so that outputs are as large as inputs."""
    weight.div_(rms(weight) * math.sqrt(weight.shape[-1]))


def rms(weight: Tensor) -> float:
    return float(torch.linalg.vector_norm(weight, dtype=torch.float32)) / math.sqrt(weight.numel())
