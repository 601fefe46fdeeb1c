"""Attention kernels cut otherwise than by default, for one menu each: blocks so small that each kind of block occurs in
a short prompt, and keys shared by another number of programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Kernel, OpCase
from models.common.attention import prefill_attention
from models.common.attention.decode_attention import AttentionShape, decode_attention
from models.common.attention.decode_attention_cases import DECODE_ATTENTION
from models.common.attention.prefill_attention import PrefillShape
from models.common.attention.prefill_attention_cases import PREFILL_ATTENTION


def only(kernel: Kernel, wanted: Callable[[str], bool]) -> Any:
    """The menu's cases whose name is wanted."""

    def menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        return (case for case in kernel.cases(dtype, device, generator) if wanted(case.name))

    return menu


def finer_prefill(**inputs: Any) -> Mapping[str, Tensor]:
    return prefill_attention.launch(**inputs, shape=PrefillShape(32, 16, 4, 2))


def split_decode(splits: int) -> Kernel:
    def launch(**inputs: Any) -> Mapping[str, Tensor]:
        return decode_attention(**inputs, shape=AttentionShape(16, 4, 2, splits))

    cases = only(DECODE_ATTENTION, lambda name: "pages of" in name or "prime" in name)
    return replace(DECODE_ATTENTION, name=f"decode_attention split {splits}", launch=launch, cases=cases)


FINER_PREFILL = replace(
    PREFILL_ATTENTION,
    name="finer prefill_attention",
    launch=finer_prefill,
    cases=only(PREFILL_ATTENTION, {"chunk after a past", "left padding", "stale memory"}.__contains__),
)
SPLIT_DECODE = tuple(split_decode(splits) for splits in (1, 2, 7))
