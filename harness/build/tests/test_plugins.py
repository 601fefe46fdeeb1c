"""Models of other distributions: found by entry points, run as the others, refused in one line where broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BROKEN = "the plugin 'toy' (toys:SPEC of toys) cannot be imported"
SPEC = """
from dataclasses import replace
from models.qwen3_4b_instruct_2507 import SPEC as published
SPEC = replace(published, name="toy")
"""


@pytest.fixture
def install(tmp_path: Path):
    """A function: distribution, entry points by name and the text of its module -> installed beside the others."""

    def install(distribution: str, module: str, text: str, **points: str) -> None:
        (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        listed = "\n".join(f"{name} = {place}" for name, place in points.items())
        (info / "entry_points.txt").write_text(f"[inference_pio.models]\n{listed}\n")

    return install


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(folder)))}
    command = [sys.executable, "-m", "harness", *words, "hardware=cpu", "timing=off"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_plugin_is_proven_as_the_models_of_this_repository_are(tmp_path: Path, install) -> None:
    install("toys", "toys", SPEC, toy="toys:SPEC")
    done = run(tmp_path, "+model=toy", "optimization=none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "toy/tiny none" in done.stdout


@pytest.mark.parametrize(
    ("text", "points", "says"),
    [
        (
            "import nothing_of_that_name",
            {"toy": "toys:SPEC"},
            BROKEN,
        ),
        ("", {"toy": "toys:SPEC"}, BROKEN),
        ("SPEC = 3", {"toy": "toys:SPEC"}, "toys:SPEC of toys must be SPEC, a ModelSpec named 'toy'"),
        (SPEC, {"toy": "toys:SPEC", "glm_4_7": "toys:SPEC"}, "two models are named 'glm_4_7'"),
    ],
)
def test_a_broken_plugin_is_one_line(tmp_path: Path, install, text: str, points: dict[str, str], says: str) -> None:
    install("toys", "toys", text, **points)
    done = run(tmp_path, "+model=toy", "plan=only")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert says in done.stderr


def test_two_plugins_of_one_name_are_one_line(tmp_path: Path, install) -> None:
    install("toys", "toys", SPEC, toy="toys:SPEC")
    install("games", "games", SPEC, toy="games:SPEC")
    done = run(tmp_path, "+model=toy", "plan=only")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "two plugins are named 'toy': " in done.stderr
