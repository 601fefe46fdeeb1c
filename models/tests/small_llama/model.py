"""Llama, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

import torch

from harness.spec.hf_config import HFConfig
from models.common.cache.kv_cache import CacheShape
from models.common.decoder.frame import Decoder, Layer, embedding, head
from models.common.linear.eager import linear
from models.common.mlp.eager import SplitGateUp, SwiGLU
from models.common.norms.eager import AddRMSNorm
from models.common.rotary.eager import RotaryTable
from models.small_llama.attention import attention
from models.small_llama.config import Geometry, geometry


def mlp(g: Geometry, dtype: torch.dtype, device: torch.device) -> SwiGLU:
    return SwiGLU(
        SplitGateUp(
            linear(g.hidden, g.intermediate, False, dtype, device),
            linear(g.hidden, g.intermediate, False, dtype, device),
        ),
        linear(g.intermediate, g.hidden, False, dtype, device),
    )


def layer(g: Geometry, dtype: torch.dtype, device: torch.device) -> Layer:
    return Layer(
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        attention(g, dtype, device),
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        mlp(g, dtype, device),
    )


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Decoder:
    g = geometry(config)
    embed = embedding(g.vocab, g.hidden, dtype, device)
    return Decoder(
        embed,
        RotaryTable(g.rope_theta, g.head_dim, dtype, device),
        [layer(g, dtype, device) for _ in range(g.layers)],
        AddRMSNorm(g.hidden, g.eps, dtype, device),
        head(embed, g.tied),
        CacheShape(g.layers, g.kv_heads, g.head_dim, dtype, device),
        g.max_positions,
    )
