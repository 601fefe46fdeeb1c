"""Two real processes give one's logits behind images; uneven shares are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ConfigError
from harness.spec import Target
from models.qwen3_vl_2b import SPEC


def test_ranks_give_the_single_processes_logits(judge: Callable[..., Any]) -> None:
    found = judge(Path(__file__).with_name("tensor_parallel_judge.py"), interpret=False)
    assert found["alike"]
    assert found["error"] < 2e-6


def test_a_world_that_does_not_divide_the_model_is_refused() -> None:
    model = SPEC.build(SPEC.sizes["tiny"], torch.float32, torch.device("meta"))
    shard = SPEC.menu["tensor_parallel"].shard
    assert shard is not None
    with pytest.raises(ConfigError, match="cannot be divided evenly among 3 ranks"):
        shard(model, Target(torch.device("cpu"), torch.float32, "none", 0, 3))
