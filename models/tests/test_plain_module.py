"""A model that shares no code with the others is judged through the public command: a plain torch module that offers
what `harness.spec.runtime.CausalLM` asks for passes, with a bug in it it is refused, and without a method it is told
which one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records.record import Record
from harness.records.run_file import read_run

ROOT = Path(__file__).resolve().parents[2]
NAME = "plain_qwen2"
BUGS = {
    "gate and up exchanged": (
        "F.silu(self.gate(normed)) * self.up(normed)",
        "F.silu(self.up(normed)) * self.gate(normed)",
        "layer 0, gated (gate, up and SwiGLU)",
    ),
    "padding is seen": (
        "torch.minimum(self.left_padding, slots)",
        "torch.minimum(0 * self.left_padding, slots)",
        "left-padded batch",
    ),
}


def judged(root: Path, change: tuple[str, str] = ("", "")) -> tuple[subprocess.CompletedProcess[str], Record]:
    """What the public command says of the model and records, with one part of its source changed."""
    for folder in ("harness", "models", "conf"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copy(ROOT / "pyproject.toml", root)
    shutil.copytree(ROOT / "models" / "tests" / NAME, root / "models" / NAME)
    (root / "conf" / "model" / f"{NAME}.yaml").write_text(f"name: {NAME}\n")
    source = root / "models" / NAME / "model.py"
    text = source.read_text()
    assert change[0] in text
    source.write_text(text.replace(*change))
    done = subprocess.run(
        [sys.executable, "-m", "harness", f"+model={NAME}", "hardware=cpu", "timing=off", "report=[markdown]"],
        cwd=root,
        # The copy comes before an installed project; nothing is timed, so nobody's lock on the device need be awaited.
        env=os.environ | {"PYTHONPATH": str(root), "XDG_RUNTIME_DIR": str(root)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    (path,) = (root / "benchmark_results").rglob("*.jsonl")
    (record,) = read_run(path)[1]
    return done, record


def test_a_right_module_passes_on_every_level_that_it_has(tmp_path: Path) -> None:
    done, record = judged(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (record.case.model, record.case.optimizations, record.status) == (NAME, (), "passed")
    assert record.parity is not None
    assert set(record.parity.levels()) == {"reference", "layer", "logits", "generation", "path"}


@pytest.mark.parametrize("bug", BUGS)
def test_a_wrong_module_is_refused_and_the_place_is_named(tmp_path: Path, bug: str) -> None:
    right, wrong, place = BUGS[bug]
    done, record = judged(tmp_path, (right, wrong))
    assert (done.returncode, record.status) == (1, "failed"), done.stdout + done.stderr
    assert record.parity is not None
    assert place in record.parity.refusal()


def test_a_module_that_lacks_a_method_is_told_which(tmp_path: Path) -> None:
    _, record = judged(tmp_path, ("    def decode(self", "    def next_token(self"))
    assert record.status == "crashed"
    assert record.error is not None
    assert record.error.message.startswith("the build PlainQwen2 has no `decode`")
