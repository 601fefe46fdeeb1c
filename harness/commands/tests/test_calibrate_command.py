"""Calibration as it is asked for: a file with every rule and every kernel of the model, or a clear refusal."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands.main import main
from harness.records.calibration import Calibration

ASKED = ("+model=qwen3_4b_instruct_2507", "hardware=cpu", "seeds=1", "dtypes=float16")


def test_kernels_are_judged_in_processes_beside_each_other_and_kept(tmp_path: Path) -> None:
    asked = [*ASKED, "kernels=true", "workers=2", f"out={tmp_path}"]
    command = [sys.executable, "-m", "harness", "calibrate", *asked]
    root = Path(__file__).parents[3]
    made = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "every limit holds" in made.stdout
    (file,) = tmp_path.glob("cpu-*.json")
    kept = Calibration.model_validate_json(file.read_text())
    assert {"gemv", "decode_attention", "prefill_attention", "rms_norm"} <= {one.kernel for one in kept.kernels}
    assert all(one.n > 50 and one.dtype == "float16" for one in kept.kernels)
    assert {"op", "layer", "logits"} == {rule.level for rule in kept.rules}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("seeds=0", "seeds=0: must be a whole number of at least 1"),
        ("dtypes=float8", "dtypes must be among float32, bfloat16, float16"),
        ("workers=0", "workers=0: must be a whole number of at least 1"),
        ("tokens=0", "tokens=0: must be a whole number of at least 1"),
        ("--tokens=8", "'--tokens=8' is written tokens=VALUE"),
        ("token=8", "unknown option of calibrate 'token': did you mean 'tokens'?"),
    ],
)
def test_what_cannot_be_is_refused(change: str, says: str, tmp_path: Path) -> None:
    err = io.StringIO()
    assert main(["calibrate", *ASKED, change, f"out={tmp_path}"], io.StringIO(), err) == 2
    assert says in err.getvalue()
    assert not list(tmp_path.iterdir())


def test_a_model_must_be_named() -> None:
    err = io.StringIO()
    assert main(["calibrate", "hardware=cpu"], io.StringIO(), err) == 2
    assert "no model was named" in err.getvalue()


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU here")
def test_a_gpu_that_is_not_here_is_refused(tmp_path: Path) -> None:
    err = io.StringIO()
    asked = ["calibrate", "+model=qwen3_4b_instruct_2507", "hardware=cuda", f"out={tmp_path}"]
    assert main(asked, io.StringIO(), err) == 2
    assert "there is no GPU here" in err.getvalue()
