"""The menu: the optimizations of GLM-4.7, in the order a stack applies them."""

from __future__ import annotations

from harness.spec.optimization import Menu
from models.common.graphs.captured_prompt import PROMPT_GRAPH
from models.common.graphs.captured_step import CUDA_GRAPH
from models.common.graphs.compiled_step import COMPILE
from models.glm_4_7.attention import ATTENTION
from models.glm_4_7.cuda_kernels import CUDA_KERNELS
from models.glm_4_7.fused_layers import FUSED_LAYERS
from models.glm_4_7.kv_cache import KV_CACHE, KV_CACHE_PAGED
from models.glm_4_7.linear import LINEAR, LINEAR_FP8, LINEAR_INT4, LINEAR_INT8
from models.glm_4_7.moe import EXPERTS
from models.glm_4_7.prefix_cache import PREFIX_CACHING
from models.glm_4_7.rotary import ROTARY
from models.glm_4_7.tensor_parallel import ONE_SHOT_ALL_REDUCE, TENSOR_PARALLEL

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
        EXPERTS,
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
        "experts",
        "fused_layers",
        "cuda_graph",
        "prompt_graph",
    ),
)
