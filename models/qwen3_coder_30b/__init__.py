"""Qwen3-Coder-30B-A3B-Instruct: 48 layers of 128 experts, 8 of them to a token; grouped queries, QK-norm."""

from models.qwen3_coder_30b.spec import SPEC

__all__ = ["SPEC"]
