"""Qwen3-Coder-30B-A3B-Instruct, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

import torch

from harness.spec.config import HFConfig
from models.common.decoder.frame import Decoder, Layer, embedding, head
from models.common.norms.eager import AddRMSNorm
from models.qwen3_coder_30b.attention import attention
from models.qwen3_coder_30b.config import Geometry, geometry
from models.qwen3_coder_30b.kv_cache import cache_shape
from models.qwen3_coder_30b.moe import moe
from models.qwen3_coder_30b.rotary import rotary_table


def layer(g: Geometry, dtype: torch.dtype, device: torch.device) -> Layer:
    return Layer(
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        attention(g, dtype, device),
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        moe(g, dtype, device),
    )


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Decoder:
    g = geometry(config)
    embed = embedding(g.vocab, g.hidden, dtype, device)
    return Decoder(
        embed,
        rotary_table(g, dtype, device),
        [layer(g, dtype, device) for _ in range(g.layers)],
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        head(embed, g.tied),
        cache_shape(g, dtype, device),
        g.max_positions,
    )
