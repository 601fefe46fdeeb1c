"""Qwen3-4B-Instruct-2507, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

import torch

from harness.spec.hf_config import HFConfig
from models.common.attention.build import unbiased_attention
from models.common.decoder.frame import Decoder, Layer, decoder, layer
from models.common.linear.eager import gated_block
from models.common.rotary.eager import RotaryTable
from models.qwen3_4b_instruct_2507.config import Geometry, geometry


def dense_layer(g: Geometry, dtype: torch.dtype, device: torch.device) -> Layer:
    attention = unbiased_attention(g.hidden, g.heads, g.kv_heads, g.head_dim, g.eps, dtype, device)
    return layer(g, attention, gated_block(g.hidden, g.intermediate, dtype, device), dtype, device)


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Decoder:
    g = geometry(config)
    rotary = RotaryTable(g.rope_theta, g.head_dim, dtype, device)
    return decoder(g, rotary, [dense_layer(g, dtype, device) for _ in range(g.layers)], dtype, device)
