"""The menu: the optimizations of Qwen3-VL-2B-Instruct, in the order a stack applies them."""

from __future__ import annotations

import torch
from torch import nn

from harness.spec import Menu, Optimization, Receipt, Target
from models.common.graphs import GraphedDecode
from models.common.kernels.decode_attention_cases import DECODE_ATTENTION
from models.common.kernels.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.kernels.norm_rotate_write_cases import NORM_ROTATE_WRITE
from models.common.kernels.prefill_attention_cases import PREFILL_ATTENTION
from models.common.kernels.rms_norm import ADD_NORM, NORM
from models.common.kernels.swiglu import SWIGLU
from models.qwen3_vl_2b import attention, fused_layers, kv_cache, linear, rotary


def capture(model: nn.Module, target: Target) -> Receipt:
    """Decode steps replay one CUDA graph per cache."""
    model.decode = GraphedDecode(model.decode)
    return Receipt("cuda_graph", ("decode",))


def compile_decode(model: nn.Module, target: Target) -> Receipt:
    """The decode step's tensor part through torch.compile, shapes fixed."""
    compute = torch.compile(model.compute, fullgraph=True, dynamic=False)

    def decode(tokens: torch.Tensor, cache: kv_cache.KVCache) -> torch.Tensor:
        return compute(tokens, cache.extend(1), cache.layers, 1)[:, -1]

    model.decode = decode
    return Receipt("compile", ("decode",))


MENU = Menu(
    items=(
        Optimization(
            name="kv_cache",
            summary="static key-value cache: one page a sequence, reserved at once",
            numerics="exact",
            apply=kv_cache.reserve(kv_cache.static, "kv_cache"),
            conflicts=("kv_cache_paged",),
        ),
        Optimization(
            name="kv_cache_paged",
            summary=f"key-value cache in pages of {kv_cache.PAGE_TOKENS} tokens from one pool",
            numerics="exact",
            apply=kv_cache.reserve(kv_cache.paged, "kv_cache_paged"),
            conflicts=("kv_cache",),
        ),
        Optimization(
            name="linear",
            summary="q, k, v in one matrix, gate, up in another; decode steps stream the weights",
            numerics="reordered",
            apply=linear.pack,
            kernels=(GEMV, GEMV_SWIGLU),
        ),
        Optimization(
            name="rotary",
            summary="QK-norm, rotation and cache write in one kernel",
            numerics="reordered",
            apply=rotary.fuse,
            kernels=(NORM_ROTATE_WRITE,),
            needs=("triton",),
        ),
        Optimization(
            name="attention",
            summary="flash prefill and split-key decode attention over pages",
            numerics="reordered",
            apply=attention.flash,
            kernels=(PREFILL_ATTENTION, DECODE_ATTENTION),
            needs=("triton",),
        ),
        Optimization(
            name="fused_layers",
            summary="residual addition with RMSNorm, silu with its product",
            numerics="reordered",
            apply=fused_layers.fuse,
            kernels=(NORM, ADD_NORM, SWIGLU),
            needs=("triton",),
        ),
        Optimization(
            name="compile",
            summary="the decode step through torch.compile",
            numerics="reordered",
            apply=compile_decode,
            requires=("kv_cache", "kv_cache_paged"),
            conflicts=("cuda_graph",),
            needs=("c++",),
        ),
        Optimization(
            name="cuda_graph",
            summary="the decode step as one captured CUDA graph",
            numerics="exact",
            apply=capture,
            requires=("kv_cache", "kv_cache_paged"),
            conflicts=("compile",),
            needs=("cuda",),
        ),
    ),
    full=("kv_cache", "linear", "rotary", "attention", "fused_layers", "cuda_graph"),
)
