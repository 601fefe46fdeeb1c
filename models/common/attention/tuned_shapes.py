"""Cut decode attention as measured for one model on a device of that name, and by default elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from harness.spec.optimization import Target
from models.common.attention.decode_attention import AttentionShape, default_shape
from models.common.kernels.launch_shapes import LaunchShapes

KERNEL = "decode_attention"
Shapes = Callable[[int, int, int, int, int, int, int], AttentionShape]
"""(rows, query heads, key-value heads, tokens of a page, slots of a row, element size, most programs to a row's keys)
-> how the launch is cut."""


def attention_sizes(
    batch: int, heads: int, kv_heads: int, page_tokens: int, capacity: int, element_size: int
) -> Mapping[str, int]:
    """Name the sizes of a decode step of attention, as launch_shapes.json does."""
    group, pages = heads // kv_heads, capacity // page_tokens
    sizes = {"rows": batch, "kv_heads": kv_heads, "group": group, "pages": pages, "keys": capacity}
    return {**sizes, "element_bytes": element_size}


def default_shapes(
    batch: int, heads: int, kv_heads: int, page_tokens: int, capacity: int, element_size: int, max_splits: int
) -> AttentionShape:
    """As `decode_attention.default_shape`, which needs no number of query heads."""
    return default_shape(batch, kv_heads, page_tokens, capacity, element_size, max_splits)


def attention_shapes(tuned: LaunchShapes, target: Target) -> Shapes:
    """Return what cuts decode attention on the target."""
    if target.kernels != "compiled" or not tuned.fit(target.device):
        return default_shapes

    def shape(
        batch: int, heads: int, kv_heads: int, page_tokens: int, capacity: int, element_size: int, max_splits: int
    ) -> AttentionShape:
        sizes = (batch, heads, kv_heads, page_tokens, capacity, element_size)
        found = tuned.find(KERNEL, attention_sizes(*sizes))
        if not found:
            return default_shapes(*sizes, max_splits)
        made = AttentionShape(**found)
        return replace(made, splits=min(made.splits, max_splits))

    return shape
