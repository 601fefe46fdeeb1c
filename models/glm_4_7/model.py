"""GLM-4.7, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

import torch
from torch import nn

from harness.spec.config import HFConfig
from models.common.decoder.frame import Decoder, Layer, embedding, head
from models.common.norms.eager import AddRMSNorm
from models.glm_4_7.attention import attention
from models.glm_4_7.config import Geometry, geometry
from models.glm_4_7.kv_cache import cache_shape
from models.glm_4_7.moe import mlp, moe
from models.glm_4_7.rotary import rotary_table


def feed_forward(g: Geometry, index: int, dtype: torch.dtype, device: torch.device) -> nn.Module:
    if index < g.dense_layers:
        return mlp(g.hidden, g.intermediate, dtype, device)
    return moe(g, dtype, device)


def layer(g: Geometry, index: int, dtype: torch.dtype, device: torch.device) -> Layer:
    return Layer(
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        attention(g, dtype, device),
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        feed_forward(g, index, dtype, device),
    )


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Decoder:
    g = geometry(config)
    embed = embedding(g.vocab, g.hidden, dtype, device)
    return Decoder(
        embed,
        rotary_table(g, dtype, device),
        [layer(g, index, dtype, device) for index in range(g.layers)],
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        head(embed, g.tied),
        cache_shape(g, dtype, device),
        g.max_positions,
    )
