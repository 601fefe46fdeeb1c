"""The example of docs/your-own-kernel.md runs and is right; each fault that the page plants in it is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "relu_squared.py"
ROOT = HERE.parents[2]


def judged(path: Path) -> dict[str, object]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, HERE / "kernel_judge.py", path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_example_is_right() -> None:
    found = judged(EXAMPLE)
    assert found["checks"]
    assert found["broken"] == []


def test_the_page_shows_the_code_of_the_example() -> None:
    page = (ROOT / "docs" / "your-own-kernel.md").read_text()
    shown = page.split("```python\n")[1].split("```")[0]
    assert EXAMPLE.read_text().endswith(shown)


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        pytest.param("triton.cdiv(x.numel(), BLOCK)", "x.numel() // BLOCK", "mask", id="the tail is never written"),
        pytest.param("x * x, mask=at < n", "x * x, mask=at <= n", "halo write", id="one element past the end"),
        pytest.param("x * x, mask", "x * x * 1.001, mask", "bias", id="a thousandth too large"),
    ],
)
def test_a_wrong_variant_is_refused(tmp_path: Path, right: str, wrong: str, rule: str) -> None:
    source = EXAMPLE.read_text()
    assert source.count(right) == 1
    variant = tmp_path / "variant.py"
    variant.write_text(source.replace(right, wrong))
    assert rule in judged(variant)["broken"]
