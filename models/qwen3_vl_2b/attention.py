"""Attention of the language model over its cache, and of the tower within each frame."""

from __future__ import annotations

from pathlib import Path

from models.common.attention.optimization import flash_attention
from models.common.decoder.extension import Extension
from models.common.kernels.launch_shapes import launch_shapes
from models.qwen3_vl_2b.fused_tower import FlashSegments
from models.qwen3_vl_2b.kernels.segment_attention_cases import SEGMENT_ATTENTION
from models.qwen3_vl_2b.segments import SegmentAttend

TOWER = Extension({SegmentAttend: FlashSegments}, (SEGMENT_ATTENTION,), "all frames of the tower in one launch")
ATTENTION = flash_attention(launch_shapes(Path(__file__).with_name("kernels")), TOWER)
