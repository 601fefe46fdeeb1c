"""The menu: the optimizations of Qwen3-Coder-30B-A3B-Instruct."""

from __future__ import annotations

from models.common.decoder.decoder_menu import decoder_menu
from models.qwen3_coder_30b import (
    attention,
    cuda_kernels,
    fused_layers,
    kv_cache,
    linear,
    moe,
    prefix_cache,
    rotary,
    tensor_parallel,
)

MENU = decoder_menu(attention, cuda_kernels, fused_layers, kv_cache, linear, moe, prefix_cache, rotary, tensor_parallel)
