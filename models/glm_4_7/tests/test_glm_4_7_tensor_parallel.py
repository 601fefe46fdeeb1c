"""One, two and four real processes give what an uncut build gives, whether weights are drawn or read; uneven shares are
refused."""

from typing import Any

import pytest
import torch

from harness.errors import ConfigError
from harness.spec.optimization import Target
from models.glm_4_7 import SPEC

CPU = torch.device("cpu")


@pytest.mark.parametrize("weights", ["random", "checkpoint"])
@pytest.mark.parametrize("world", ["1", "2", "4"])
def test_ranks_give_the_logits_of_the_uncut_build(ranks: dict[str, Any], world: str, weights: str) -> None:
    found = ranks[world][weights]
    assert found["error"] < 2e-6
    assert found["alike"]


@pytest.mark.parametrize(("world", "kv_heads"), [(2, 1), (4, 1)])
def test_a_rank_holds_its_share(ranks: dict[str, Any], world: int, kv_heads: int) -> None:
    """12 query and 2 key-value heads of 128, 768 channels of a dense block, 96 of each expert and the shared one."""
    held = ranks[str(world)]["random"]["held"]
    qkv = (12 // world + 2 * kv_heads) * 128
    assert held["last.attention.qkv.packed.weight"] == [qkv, 320]
    assert held["last.attention.qkv.packed.bias"] == [qkv]
    assert held["keys"] == [2, kv_heads, 24, 128]
    assert held["first.mlp.gate_up.weight"] == [2 * 768 // world, 320]
    assert held["last.mlp.shared.gate_up.weight"] == [2 * 96 // world, 320]
    assert held["last.mlp.routed.experts.partial.gate_up_proj"] == [16, 2 * 96 // world, 320]
    assert held["last.mlp.routed.experts.partial.down_proj"] == [16, 320, 96 // world]
    assert held["last.mlp.routed.router.weight"] == [16, 320]


def test_worlds_that_do_not_divide_the_model_are_refused() -> None:
    model = SPEC.build(SPEC.sizes["tiny"], torch.float32, torch.device("meta"))
    shard = SPEC.menu["tensor_parallel"].shard
    assert shard is not None
    with pytest.raises(ConfigError, match=r"12 query heads.*96 channels of an expert.*among 5 ranks"):
        shard(model, Target(CPU, torch.float32, "none", 0, 5))
