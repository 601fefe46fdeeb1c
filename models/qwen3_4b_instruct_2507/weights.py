"""Hugging Face parameter name -> ours."""

from __future__ import annotations

from models.common.decoder.weights import GATED_RENAMES, LAYER_RENAMES, perturbing, renaming

rename = renaming(("model.", ""), *LAYER_RENAMES, *GATED_RENAMES)
perturb = perturbing({"norm": 0.1})
