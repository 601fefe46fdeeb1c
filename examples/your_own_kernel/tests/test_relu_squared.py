"""The example of docs/your-own-kernel.md runs and is right; each fault that the page plants in it is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "relu_squared.py"
ROOT = HERE.parents[2]


def check(path: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of the command, in a process of its own: Triton settles when it is imported whether it
    interprets."""
    command = [sys.executable, "-m", "harness", "check-kernel", str(path), "hardware=cpu", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_example_is_right_and_its_cases_show_every_fault() -> None:
    code, said = check(EXAMPLE)
    assert code == 0, said
    assert "all pass" in said
    assert re.search(r"relu_squared: (\d+) of \1 planted faults seen", said)


def test_the_page_shows_the_code_of_the_example() -> None:
    page = (ROOT / "docs" / "your-own-kernel.md").read_text()
    shown = page.split("```python\n")[1].split("```")[0]
    assert EXAMPLE.read_text().endswith(shown)


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        pytest.param("triton.cdiv(x.numel(), BLOCK)", "x.numel() // BLOCK", "mask", id="the tail is never written"),
        pytest.param("x * x, mask=at < n", "x * x, mask=at <= n", "out-of-bounds write", id="one element past the end"),
        pytest.param("x * x, mask", "x * x * 1.001, mask", "bias", id="a thousandth too large"),
    ],
)
def test_a_wrong_variant_is_refused(tmp_path: Path, right: str, wrong: str, rule: str) -> None:
    code, said = check(changed(tmp_path, right, wrong), "faults=false")
    assert code == 1
    assert rule in said


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        pytest.param(
            '    yield OpCase("transposed"', '    "" and OpCase("transposed"', "strides ignored", id="strides"
        ),
        pytest.param("(7, 257), drawn)", "(7, 257))", "made for known shapes", id="no size that is drawn"),
    ],
)
def test_cases_that_show_too_little_are_told(tmp_path: Path, right: str, wrong: str, fault: str) -> None:
    code, said = check(changed(tmp_path, right, wrong))
    assert code == 1
    assert f"not seen: {fault}" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\n", "holds no Kernel"),
        ("import nothing_of_that_name\n", "cannot be imported"),
        ("def\n", "cannot be imported"),
    ],
)
def test_a_file_without_a_kernel_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "file.py").write_text(text)
    code, said = check(tmp_path / "file.py")
    assert (code, said.count("\n")) == (2, 1)
    assert says in said


def changed(folder: Path, right: str, wrong: str) -> Path:
    source = EXAMPLE.read_text()
    assert source.count(right) == 1
    variant = folder / "variant.py"
    variant.write_text(source.replace(right, wrong))
    return variant
