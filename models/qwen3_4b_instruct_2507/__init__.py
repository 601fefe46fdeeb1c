"""Qwen3-4B-Instruct-2507: dense, 36 layers, grouped queries, QK-norm."""

from models.qwen3_4b_instruct_2507.spec import SPEC

__all__ = ["SPEC"]
