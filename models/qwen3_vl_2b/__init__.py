"""Qwen3-VL-2B-Instruct: a vision tower with deep features, 28 dense layers, three-axis rotary positions."""

from models.qwen3_vl_2b.spec import SPEC

__all__ = ["SPEC"]
