from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.common.kernels.workspace import Workspace
from models.common.linear.eager import PackedLinear, linear
from models.common.linear.skinny import SkinnyGated, SkinnyLinear
from models.common.mlp.eager import Gate

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def judged(judge: Callable[..., Any]) -> dict[str, Any]:
    return judge(Path(__file__).with_name("skinny_judge.py"), interpret=True)


def test_modules_agree_with_what_they_replace_at_every_row_count(judged: dict[str, Any]) -> None:
    assert judged.pop("shared")
    assert len(judged) == 12
    assert {name: found for name, found in judged.items() if found["error"] > 2e-6} == {}


def test_rows_past_the_threshold_are_left_to_torch_bit_for_bit(judged: dict[str, Any]) -> None:
    assert all(found["equal"] for name, found in judged.items() if name.endswith("many"))


def test_leading_axes_are_kept(judged: dict[str, Any]) -> None:
    assert judged["packed few"]["shape"] == [[2, 2, 32], [2, 2, 16]]
    assert judged["gated one"]["shape"] == [[1, 1, 48]]


def test_what_would_be_computed_wrongly_is_refused() -> None:
    workspace = Workspace.allocate(0, 0, CPU)
    biased, small = linear(8, 8, True, torch.float32, CPU), linear(8, 4, False, torch.float32, CPU)
    with pytest.raises(ValueError, match="serves 1 to 64"):
        SkinnyLinear(biased, 65, workspace)
    with pytest.raises(ValueError, match="paired wrongly"):
        SkinnyGated(PackedLinear([small, linear(8, 6, False, torch.float32, CPU)]), Gate(), 4, workspace)
