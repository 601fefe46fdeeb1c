"""A small Llama: dense, two layers, grouped queries, no norm on the heads. The fifth model of `test_fifth_model.py`."""

from models.small_llama.spec import SPEC

__all__ = ["SPEC"]
