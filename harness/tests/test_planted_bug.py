"""A bug planted in the sources makes the command refuse, and name the layer and the op."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLANTS = {
    "all-reduce skipped": (
        "tensor_parallel",
        "models/common/joins.py",
        "        dist.all_reduce(out)\n        return out if self.bias",
        "        return out if self.bias",
        "layer 0, output (o projection)",
    ),
    "every rank keeps the first share": (
        "tensor_parallel",
        "models/common/sharding.py",
        "return range(rank * each, (rank + 1) * each)",
        "return range(each)",
        "layer 0, output (o projection)",
    ),
    "rotary on the query only": (
        "none",
        "models/common/attention.py",
        "cache.write(rotate(self.k_norm(k), cos, sin), v, slots)",
        "cache.write(self.k_norm(k), v, slots)",
        "layer 0, key_cached (QK-norm and rotary, cache write)",
    ),
    "gate and up exchanged": (
        "none",
        "models/common/mlp.py",
        "return F.silu(gate) * up\n",
        "return F.silu(up) * gate\n",
        "layer 0, gated (gate, up and SwiGLU)",
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_the_command_refuses_and_names_the_place(plant: str, tmp_path: Path) -> None:
    stack, file, right, wrong, place = PLANTS[plant]
    for folder in ("harness", "models", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    source = (tmp_path / file).read_text()
    assert right in source, "the planted bug no longer fits the source"
    (tmp_path / file).write_text(source.replace(right, wrong))
    command = [sys.executable, "-m", "harness", "+model=qwen3_4b_instruct_2507", f"optimization={stack}"]
    done = subprocess.run(
        [*command, "hardware=cpu", "timing=off", "report=[markdown]"],
        cwd=tmp_path,
        # Nothing is timed, so nobody's lock on the device need be waited for.
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    report = next((tmp_path / "reports").rglob("report.md")).read_text()
    assert place in report.replace("\\", "")
    assert place in done.stdout
