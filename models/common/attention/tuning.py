"""What a model's decode attention meets, and how its launch can be cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import OpCase
from harness.spec.tuning import Launch, Tuning
from models.common.attention.decode_attention import MAX_SPLITS, AttentionShape, decode_attention, needs
from models.common.attention.decode_attention_cases import DECODE_ATTENTION, inputs
from models.common.attention.tuned_shapes import attention_sizes
from models.common.kernels.workspace import Workspaces

MULTIPROCESSORS = 132
"""Of an H200: candidates fill them one to eight times."""
STEPS = (
    (1, 1, 1024, (1, 4096)),
    (32, (2, 64), 1024, (1, 4096)),
    (1, 1, 32768, (4097, 131072)),
    (32, (2, 64), 8192, (4097, 131072)),
)
"""(rows measured, rows covered, keys measured, keys covered) of steps whose rows are one page each."""


def attention_tunings(model: Any, dtype: torch.dtype) -> Iterator[Tuning]:
    """Yield the classes of decode steps of `model` that its positions reach."""
    qkv, kv_heads = model.layers[0].attention.qkv, model.caches.kv_heads
    heads = qkv.q_proj.out_features // qkv.head_dim
    for batch, rows, keys, covered in STEPS:
        if keys <= model.max_positions:
            sizes = attention_sizes(batch, heads, kv_heads, keys, keys, dtype.itemsize)
            yield Tuning(
                kernel=DECODE_ATTENTION,
                sizes={**sizes, "rows": rows, "keys": covered},
                case=partial(_case, batch, heads // kv_heads, kv_heads, keys),
                launches=tuple(asdict(shape) for shape in shapes(batch, kv_heads, keys)),
                cut=_cut,
            )


def _case(
    batch: int,
    group: int,
    kv_heads: int,
    keys: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
) -> OpCase:
    made = inputs([keys] * batch, [0] * batch, group, kv_heads, keys, 1, dtype, device, generator)
    return OpCase(f"B{batch} {keys} keys", made)


def _cut(launch: Launch) -> Callable[..., Mapping[str, Tensor]]:
    """With one workspace for all launches, as the layers of a model have."""
    shape, workspaces = AttentionShape(**launch), Workspaces()

    def run(q: Tensor, **inputs: Any) -> Mapping[str, Tensor]:
        batch, _, heads, size = q.shape
        workspace = workspaces.get(needs(batch, heads, size, shape.splits), q.device)
        return decode_attention(q, **inputs, shape=shape, workspace=workspace)

    return run


def shapes(batch: int, kv_heads: int, keys: int) -> list[AttentionShape]:
    """Return candidates of one to eight programs per multiprocessor, every one once. A class covers shorter caches than
    the one that is measured, so that a block never holds more than 64 keys."""
    tiles = ((32, 2), (32, 4), (64, 4), (64, 8))
    made = (
        AttentionShape(block_n, warps, stages, _splits(batch, kv_heads, keys, block_n, programs))
        for (block_n, warps), stages, programs in product(tiles, (2, 3, 4), (1, 2, 4, 8))
    )
    return list(dict.fromkeys(made))


def _splits(batch: int, kv_heads: int, keys: int, block_n: int, programs: int) -> int:
    wanted = round(programs * MULTIPROCESSORS / (batch * kv_heads))
    return max(1, min(MAX_SPLITS, wanted, keys // block_n))
