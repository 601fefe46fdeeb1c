"""GLM-4.7, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

import torch
from torch import nn

from harness.spec.hf_config import HFConfig
from models.common.decoder.frame import Decoder, decoder, layer
from models.common.linear.eager import gated_block
from models.common.rotary.eager import RotaryTable
from models.glm_4_7.attention import attention
from models.glm_4_7.config import Geometry, geometry
from models.glm_4_7.moe import moe


def feed_forward(g: Geometry, index: int, dtype: torch.dtype, device: torch.device) -> nn.Module:
    if index < g.dense_layers:
        return gated_block(g.hidden, g.intermediate, dtype, device)
    return moe(g, dtype, device)


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Decoder:
    g = geometry(config)
    layers = [
        layer(g, attention(g, dtype, device), feed_forward(g, index, dtype, device), dtype, device)
        for index in range(g.layers)
    ]
    return decoder(g, RotaryTable(g.rope_theta, g.rotated, dtype, device), layers, dtype, device)
