"""Hugging Face parameter name -> ours; a checkpoint's experts put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from harness.spec.hf_config import HFConfig
from models.common.decoder.weights import LAYER_RENAMES, perturbing, renaming
from models.common.moe.expert_weights import merged
from models.qwen3_coder_30b.config import geometry

rename = renaming(("model.", ""), *LAYER_RENAMES, ("mlp.gate.", "mlp.router."))
perturb = perturbing({"norm": 0.1})


def merge(config: HFConfig, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    return merged(tensors, geometry(config).experts)
