"""A small Qwen2 in plain torch, sharing no line with the other models. `test_plain_module.py` judges it."""

from models.plain_qwen2.spec import SPEC

__all__ = ["SPEC"]
