"""What ranks are fed is one thing, though each has a reference of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.build import registry

SCRIPT = Path(__file__).parent / "parted_ranks.py"


@pytest.mark.parametrize("name", registry.names())
def test_a_reference_that_breaks_near_ties_otherwise_on_one_rank_changes_nothing(
    judge: Callable[..., Any], name: str
) -> None:
    assert judge(SCRIPT, name, interpret=False) == [[], []]
