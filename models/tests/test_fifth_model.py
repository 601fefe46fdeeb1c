"""Adding a model is one directory and one line of configuration: a fifth one, added to a copy of the project in which
no other file changes, is listed, proven, and refused when it is wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.build import registry
from harness.records.run_file import read_run

ROOT = Path(__file__).resolve().parents[2]
NAME = "small_llama"
RUN = ("harness", f"+model={NAME}", "hardware=cpu", "timing=off", "report=[markdown]")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_fifth(tmp_path_factory.mktemp("project"))


def with_fifth(root: Path) -> Path:
    """A copy of the project in `root`, and the fifth model in it: what is added replaces nothing."""
    for folder in ("harness", "models", "conf"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copytree(ROOT / "models" / "tests" / NAME, root / "models" / NAME)
    (root / "conf" / "model" / f"{NAME}.yaml").write_text(f"name: {NAME}\n")
    return root


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=project,
        # The copy comes before an installed project; nothing is timed, so nobody's lock on the device need be awaited.
        env=os.environ | {"PYTHONPATH": str(project), "XDG_RUNTIME_DIR": str(project)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_is_listed_beside_the_others(project: Path) -> None:
    done = run(project, "harness")
    assert done.returncode == 2
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    listed = [NAME, "HuggingFaceTB/SmolLM-135M@main", "tiny", "kv_cache kv_cache_paged linear rotary"]
    assert listed in rows, done.stdout + done.stderr
    assert {row[0] for row in rows if "@" in row[1]} == {NAME, *registry.names()}


def test_it_is_self_contained_by_the_test_that_holds_the_others(project: Path) -> None:
    (project / "models" / "tests").mkdir()
    file = "models/tests/test_self_contained.py"
    shutil.copy(ROOT / file, project / file)
    done = run(project, "pytest", "models/tests/test_self_contained.py", "-rA")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"test_no_model_is_imported_from_elsewhere[{NAME}]" in done.stdout


def test_the_public_command_proves_it(project: Path) -> None:
    done = run(project, *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (project / "benchmark_results").rglob("*.jsonl")
    _, (record,) = read_run(path)
    assert (record.case.model, record.case.optimizations) == (NAME, ("kv_cache", "linear", "rotary"))
    assert record.status == "passed"
    assert record.parity is not None
    assert {"op", "layer", "logits", "generation", "path"} <= set(record.parity.levels())
    assert [receipt.optimization for receipt in record.receipts] == ["kv_cache", "linear", "rotary"]
    assert "layers.1.attention.qkv" in record.receipts[1].touched


def test_it_is_refused_when_it_is_wrong_and_the_place_is_named(tmp_path: Path) -> None:
    weights = with_fifth(tmp_path) / "models" / NAME / "weights.py"
    source = weights.read_text()
    right, wrong = '("mlp.gate_proj", "mlp.gate_up.gate_proj")', '("mlp.gate_proj", "mlp.gate_up.up_proj")'
    exchanged = source.replace("mlp.gate_up.up_proj", "mlp.gate_up.gate_proj").replace(right, wrong)
    assert exchanged.count("mlp.gate_up") == 2
    weights.write_text(exchanged)
    done = run(tmp_path, *RUN, "optimization=none", "recipe=random")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "layer 0, gated (gate, up and SwiGLU)" in done.stdout
