"""The menu: the optimizations of GLM-4.7."""

from __future__ import annotations

from models.common.decoder.decoder_menu import decoder_menu
from models.glm_4_7 import (
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
