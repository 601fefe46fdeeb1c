"""One, two and four real processes give what an uncut build gives, whether weights are drawn or read; uneven shares are
refused."""

from typing import Any

import pytest
import torch

from harness.errors import ConfigError
from harness.spec.optimization import Target
from models.qwen3_4b_instruct_2507 import SPEC

CPU = torch.device("cpu")
HELD = ("last.attention.qkv.packed.weight", "last.mlp.gate_up.weight", "keys")


@pytest.mark.parametrize("weights", ["random", "checkpoint"])
@pytest.mark.parametrize("world", ["1", "2", "4"])
def test_ranks_give_the_logits_of_the_uncut_build(ranks: dict[str, Any], world: str, weights: str) -> None:
    found = ranks[world][weights]
    assert found["error"] < 2e-6
    assert found["alike"]


def test_a_rank_holds_its_share_and_key_value_heads_are_doubled_up_past_two(ranks: dict[str, Any]) -> None:
    """8 query and 2 key-value heads of 128, 608 feed-forward channels: packed qkv, packed gate-up, cache pages."""
    assert [ranks["2"]["random"]["held"][name] for name in HELD] == [
        [4 * 128 + 2 * 128, 320],
        [608, 320],
        [2, 1, 24, 128],
    ]
    assert [ranks["4"]["random"]["held"][name] for name in HELD] == [
        [2 * 128 + 2 * 128, 320],
        [304, 320],
        [2, 1, 24, 128],
    ]


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (3, "2 key-value heads and 2048 vocabulary entries and 8 query heads and 608 feed-forward channels"),
        (16, "8 query heads"),
    ],
)
def test_worlds_that_do_not_divide_the_model_are_refused(world: int, words: str) -> None:
    model = SPEC.build(SPEC.sizes["tiny"], torch.float32, torch.device("meta"))
    shard = SPEC.menu["tensor_parallel"].shard
    assert shard is not None
    with pytest.raises(ConfigError, match=f"{words} cannot be divided evenly among {world} ranks"):
        shard(model, Target(CPU, torch.float32, "none", 0, world))
