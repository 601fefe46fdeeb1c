"""The menu of a decoder-only model: what its mechanism files declare, in the order in which a stack applies it."""

from __future__ import annotations

from types import ModuleType

from harness.spec.optimization import Menu, Optimization
from models.common.graphs.captured_prompt import PROMPT_GRAPH
from models.common.graphs.captured_step import CUDA_GRAPH
from models.common.graphs.compiled_step import COMPILE

ORDER = (
    "tensor_parallel",
    "one_shot_all_reduce",
    "kv_cache",
    "kv_cache_paged",
    "prefix_caching",
    "linear",
    "linear_int8",
    "linear_fp8",
    "linear_int4",
    "rotary",
    "attention",
    "cuda_kernels",
    "experts",
    "fused_layers",
    "compile",
    "cuda_graph",
    "prompt_graph",
)
"""Weights are cut before they are packed, swapped before a step is captured."""
FULL = (
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
)
"""What changes no weight and needs one device."""


def decoder_menu(*mechanisms: ModuleType) -> Menu:
    """Return the menu of every Optimization that one of `mechanisms` declares, and of what captures or compiles whole
    steps. Raises ValueError for one that ORDER does not place."""
    declared = [value for each in mechanisms for value in vars(each).values() if isinstance(value, Optimization)]
    items = {item.name: item for item in (*declared, COMPILE, CUDA_GRAPH, PROMPT_GRAPH)}
    unplaced = sorted(items.keys() - set(ORDER))
    if unplaced:
        raise ValueError(f"nothing says when a stack applies {', '.join(unplaced)}: add it to ORDER")
    return Menu(
        items=tuple(items[name] for name in ORDER if name in items),
        full=tuple(name for name in FULL if name in items),
    )
