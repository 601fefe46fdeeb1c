"""One, two and four real processes give what an uncut build gives, whether weights are drawn or read; uneven shares are
refused."""

from typing import Any

import pytest
import torch

from harness.errors import ConfigError
from harness.spec.optimization import Target
from models.qwen3_coder_30b import SPEC

CPU = torch.device("cpu")
EXPERT = 96
"""Channels of an expert."""


@pytest.mark.parametrize("weights", ["random", "checkpoint"])
@pytest.mark.parametrize("world", ["1", "2", "4"])
def test_ranks_give_the_logits_of_the_uncut_build(ranks: dict[str, Any], world: str, weights: str) -> None:
    found = ranks[world][weights]
    assert found["error"] < 2e-6
    assert found["alike"]


@pytest.mark.parametrize("world", [2, 4])
def test_a_rank_holds_its_share(ranks: dict[str, Any], world: int) -> None:
    """16 query and 2 key-value heads of 128, two of which four ranks keep in pairs; channels of each expert."""
    held = ranks[str(world)]["random"]["held"]
    assert held["last.attention.qkv.packed.weight"] == [16 // world * 128 + 2 * 128, 256]
    assert held["keys"] == [2, 1, 24, 128]
    assert held["last.mlp.experts.partial.gate_up_proj"] == [16, 2 * EXPERT // world, 256]
    assert held["last.mlp.experts.partial.down_proj"] == [16, 256, EXPERT // world]
    assert held["last.mlp.router.weight"] == [16, 256]


def test_worlds_that_do_not_divide_the_model_are_refused() -> None:
    model = SPEC.build(SPEC.sizes["tiny"], torch.float32, torch.device("meta"))
    shard = SPEC.menu["tensor_parallel"].shard
    assert shard is not None
    with pytest.raises(ConfigError, match=r"16 query heads.*channels of an expert.*among 5 ranks"):
        shard(model, Target(CPU, torch.float32, "none", 0, 5))
