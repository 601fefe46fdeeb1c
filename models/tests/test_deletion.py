"""A model does not need the others: with them deleted it is listed alone, planned, and all of its modules import. In CI
each model's own tests run in such a copy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.build.registry import names
from models.tests.alone import alone

IMPORT_ALL = """
import importlib, pkgutil, models
found = [m.name for m in pkgutil.walk_packages(models.__path__, "models.") if not m.ispkg and ".tests." not in m.name]
for name in found: importlib.import_module(name)
print(sum(name.startswith("models.{name}.") for name in found), "modules")
"""


@pytest.mark.parametrize("name", names())
def test_a_model_is_whole_without_the_others(tmp_path: Path, name: str) -> None:
    project = alone(tmp_path, name)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        here = os.environ | {"PYTHONPATH": str(project)}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env=here,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    planned = run("-m", "harness", f"+model={name}", "hardware=cpu", "plan=only")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert f"{name}/tiny" in planned.stdout
    whole = run("-c", IMPORT_ALL.format(name=name))
    assert whole.returncode == 0, whole.stderr
    assert int(whole.stdout.split()[0]) > 10, whole.stdout
    another = next(other for other in names() if other != name)
    gone = run("-m", "harness", f"+model={another}", "hardware=cpu", "plan=only")
    assert gone.returncode == 2, "the copy must not find the deleted models elsewhere"
    assert f"No module named 'models.{another}'" in run("-c", f"import models.{another}").stderr
