"""The menu: the optimizations of Qwen3-4B-Instruct-2507."""

from __future__ import annotations

from models.common.decoder.decoder_menu import decoder_menu
from models.qwen3_4b_instruct_2507 import (
    attention,
    cuda_kernels,
    fused_layers,
    kv_cache,
    linear,
    prefix_cache,
    rotary,
    tensor_parallel,
)

MENU = decoder_menu(attention, cuda_kernels, fused_layers, kv_cache, linear, prefix_cache, rotary, tensor_parallel)
