"""What ranks are fed is one thing, though each has a reference of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import registry

SCRIPT = Path(__file__).parent / "parted_ranks.py"


@pytest.mark.parametrize("name", registry.names())
def test_a_reference_that_breaks_near_ties_otherwise_on_one_rank_changes_nothing(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), name],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [[], []]
