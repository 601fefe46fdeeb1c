"""A built wheel, unpacked beside nothing else, run from a folder that is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ASKED = ("+model=qwen3_4b_instruct_2507", "hardware=cpu", "timing=off")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which the wheel was unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *words]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_holds_what_it_runs_on_and_no_tests(installed: Path) -> None:
    inside = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert "harness/conf/config.yaml" in inside
    assert "models/qwen3_4b_instruct_2507/configs/full.json" in inside
    for ending in (".cu", ".j2", "prose.txt"):
        assert any(name.endswith(ending) for name in inside), ending
    assert not [name for name in inside if "/tests/" in name or "/benchmarks/" in name or "conftest" in name]
    entry = next(name for name in inside if name.endswith("entry_points.txt"))
    assert "inference-pio = harness.commands.main:main" in (installed / entry).read_text()


def test_a_case_is_proven_from_any_folder_and_its_record_stays_there(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise ImportError('the models of another project')\n")
    done = run(installed, tmp_path, *ASKED, "optimization=none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "benchmark_results" / "cpu").glob("*.jsonl"))
    assert list((tmp_path / "reports").rglob("report.md"))


def test_one_without_its_data_says_so_in_one_line(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed, tmp_path / "site", ignore=shutil.ignore_patterns("conf"))
    done = run(tmp_path / "site", tmp_path, *ASKED)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no configuration at ")
    assert done.stderr.count("\n") == 1
