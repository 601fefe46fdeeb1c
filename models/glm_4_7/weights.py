"""Hugging Face tensor name -> ours; a checkpoint's experts put together, its layers past the last one left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from harness.spec.hf_config import HFConfig
from models.common.decoder.weights import GATED_RENAMES, LAYER_RENAMES, perturbing, renaming
from models.common.moe.expert_weights import merged
from models.glm_4_7.config import geometry

rename = renaming(
    ("model.", ""),
    *LAYER_RENAMES,
    ("mlp.gate.e_score_correction_bias", "mlp.routed.router.correction"),
    ("mlp.gate.", "mlp.routed.router."),
    ("mlp.experts.", "mlp.routed.experts."),
    ("mlp.shared_experts.", "mlp.shared."),
    *GATED_RENAMES,
    ("mlp.shared.gate_proj", "mlp.shared.gate_up.gate_proj"),
    ("mlp.shared.up_proj", "mlp.shared.gate_up.up_proj"),
)
perturb = perturbing({"norm": 0.1, "bias": 0.1})
"""Biases, and the router's correction among them."""


def merge(config: HFConfig, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """What follows the last layer predicts a second token: published with the weights, no part of the model."""
    g = geometry(config)
    beyond = tuple(f"model.layers.{g.layers + index}." for index in range(g.predicting_layers))
    return merged(((name, tensor) for name, tensor in tensors if not name.startswith(beyond)), g.experts)
