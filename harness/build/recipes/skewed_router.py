"""A router that is sure of itself and has favorites: few experts rule a token, some are crowded, some starve.

Skewed loads and confident routers of trained models: Jiang et al. 2024 (Mixtral), Muennighoff et al. 2024 (OLMoE).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.build.inputs import generator
from harness.build.recipes.residual_stream import Stream, unit_gain

SHARPNESS = 3.5
"""Standard deviation of an expert's logit over tokens."""
FAVOR = 2.0
"""The same of its mean over experts."""
STARVED, STARVED_SHARE = 8.0, 0.25
"""How far below the others the mean of some is, and of how many."""
CORRECTION, CORRECTION_SPREAD = 7.0, 0.1
"""About where the corrections of a router's experts stand, as in published checkpoints: far above scores, and so close
together that a type of few bits cannot tell them apart. The spread is a factor on that of random ones."""


def skew(weight: Tensor, chosen: int, stream: Stream, seed: int, purpose: str) -> None:
    """Skew the rows [E, H] of a router of which a token visits `chosen`. A third as many experts as that have
    a logit above 0, so that a router of sigmoids weighs the others as little as one of a softmax does."""
    drawn = generator(seed, purpose)
    experts = len(weight)
    mean = FAVOR * torch.randn(experts, generator=drawn)
    starved = int(STARVED_SHARE * experts)
    mean[torch.randperm(experts, generator=drawn)[:starved]] -= STARVED
    above = torch.tensor(1 - chosen / 3 / (experts - starved), dtype=torch.float64)
    mean -= math.hypot(SHARPNESS, FAVOR) * float(torch.special.ndtri(above))
    unit_gain(weight)
    weight.mul_(SHARPNESS)
    weight[:, stream.bias] = mean.to(weight)
