from __future__ import annotations

from pathlib import Path

import pytest

from models.common.attention import cluster_attention
from models.common.parallel import one_shot_all_reduce

SOURCES = (cluster_attention.SOURCE, one_shot_all_reduce.SOURCE)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_every_source_defines_the_function_that_its_launch_calls(source: Path) -> None:
    assert f"{source.stem}(" in source.read_text().partition('extern "C"')[2]
