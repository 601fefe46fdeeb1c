"""Qwen3-Coder-30B-A3B-Instruct, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

import torch

from harness.spec.hf_config import HFConfig
from models.common.attention.build import unbiased_attention
from models.common.decoder.frame import Decoder, Layer, decoder, layer
from models.common.rotary.eager import RotaryTable
from models.qwen3_coder_30b.config import Geometry, geometry
from models.qwen3_coder_30b.moe import moe


def sparse_layer(g: Geometry, dtype: torch.dtype, device: torch.device) -> Layer:
    attention = unbiased_attention(g.hidden, g.heads, g.kv_heads, g.head_dim, g.eps, dtype, device)
    return layer(g, attention, moe(g, dtype, device), dtype, device)


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Decoder:
    g = geometry(config)
    rotary = RotaryTable(g.rope_theta, g.head_dim, dtype, device)
    layers = [sparse_layer(g, dtype, device) for _ in range(g.layers)]
    return decoder(g, rotary, layers, dtype, device)
