"""The menu: the optimizations of Qwen3-VL-2B-Instruct, in the order a stack applies them."""

from __future__ import annotations

from harness.spec.optimization import Menu
from models.common.graphs.captured_prompt import PROMPT_GRAPH
from models.common.graphs.captured_step import CUDA_GRAPH
from models.common.graphs.compiled_step import COMPILE
from models.qwen3_vl_2b.attention import ATTENTION
from models.qwen3_vl_2b.cuda_kernels import CUDA_KERNELS
from models.qwen3_vl_2b.fused_layers import FUSED_LAYERS
from models.qwen3_vl_2b.kv_cache import KV_CACHE, KV_CACHE_PAGED
from models.qwen3_vl_2b.linear import LINEAR, LINEAR_FP8, LINEAR_INT4, LINEAR_INT8
from models.qwen3_vl_2b.prefix_cache import PREFIX_CACHING
from models.qwen3_vl_2b.rotary import ROTARY
from models.qwen3_vl_2b.tensor_parallel import ONE_SHOT_ALL_REDUCE, TENSOR_PARALLEL

MENU = Menu(
    items=(
        TENSOR_PARALLEL,
        ONE_SHOT_ALL_REDUCE,
        KV_CACHE,
        KV_CACHE_PAGED,
        PREFIX_CACHING,
        LINEAR,
        LINEAR_INT8,
        LINEAR_FP8,
        LINEAR_INT4,
        ROTARY,
        ATTENTION,
        CUDA_KERNELS,
        FUSED_LAYERS,
        COMPILE,
        CUDA_GRAPH,
        PROMPT_GRAPH,
    ),
    full=(
        "kv_cache",
        "prefix_caching",
        "linear",
        "rotary",
        "attention",
        "cuda_kernels",
        "fused_layers",
        "cuda_graph",
        "prompt_graph",
    ),
)
