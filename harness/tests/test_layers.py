"""The one direction of the house, shown able to fail: imports that run against it are planted in a copy and found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLANTED = {
    "harness/records/case.py": "from harness.planning import plan",
    "harness/planning/stack.py": "def planted():\n    import harness.build.registry",
    "harness/analysis/stats.py": "from harness.parity.tolerance.rules import judge",
    "harness/report/view.py": "if TYPE_CHECKING:\n    from harness.timing import clock",
    "harness/timing/clock.py": "import harness.faults.first_seen",
    "harness/spec/kernel.py": "from harness.records import checks",
    "models/common/decoder/swap.py": "import harness.build.quantized_reference",
    "models/common/norms/eager.py": "from models.glm_4_7 import router",
    "models/qwen3_4b_instruct_2507/rotary.py": "from models.qwen3_vl_2b import positions",
    "harness/signoff/policy.py": "import hydra",
}
"""File -> an import that its package must not have: upward, sideways, in a function, for types only, of a library."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the contracts say of a copy with every planted import, on one line."""
    copy = tmp_path_factory.mktemp("house")
    for folder in ("harness", "models"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for file, line in PLANTED.items():
        with (copy / file).open("a") as source:
            source.write(f"\n\n{line}\n")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("file", PLANTED)
def test_an_import_against_the_direction_is_named(told: str, file: str) -> None:
    module = file.removesuffix(".py").replace("/", ".")
    assert f"{module} -> " in told.partition("Broken contracts")[2]


def test_a_package_that_no_layer_holds_is_refused(tmp_path: Path) -> None:
    for folder in ("harness", "models"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "harness" / "annex").mkdir()
    (tmp_path / "harness" / "annex" / "__init__.py").touch()
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "annex" in done.stdout


def test_few_files_stand_at_the_root() -> None:
    assert len(list((ROOT / "harness").glob("*.py"))) <= 4


ROLES = {"__init__", "conftest", "eager", "fused", "mutations", "optimization", "tuning", "tuned_shapes"}
"""Names that say what a file is to its mechanism, and so stand in every mechanism."""


def test_no_file_name_stands_twice() -> None:
    files = [path for folder in ("harness", "models/common") for path in (ROOT / folder).rglob("*.py")]
    names = Counter(path.stem for path in files if "tests" not in path.relative_to(ROOT).parts)
    assert [name for name, count in names.items() if count > 1 and name not in ROLES] == []
