"""Segment attention in blocks so small that whole and cut blocks follow each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from models.qwen3_vl_2b.kernels.segment_attention import SegmentShape
from models.qwen3_vl_2b.kernels.segment_attention import launch as attend
from models.qwen3_vl_2b.kernels.segment_attention_cases import SEGMENT_ATTENTION


def launch(**inputs: Any) -> Mapping[str, Tensor]:
    return attend(**inputs, shape=SegmentShape(16, 16, 4, 2))


FINER = replace(SEGMENT_ATTENTION, name="finer", launch=launch)
