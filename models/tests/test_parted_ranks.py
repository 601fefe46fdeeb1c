"""What ranks are fed is one thing, though each has a reference of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "parted_ranks.py"


@pytest.mark.parametrize("name", ["glm_4_7", "qwen3_vl_2b"], ids=["routes", "sees"])
def test_a_reference_that_breaks_near_ties_otherwise_on_one_rank_changes_nothing(
    judge: Callable[..., Any], name: str
) -> None:
    assert judge(SCRIPT, name, interpret=False) == [[], []]
