"""Calibration as it is asked for: a file with every rule and every kernel of the model, or a clear refusal."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.commands import calibrate
from harness.records.calibration import Calibration

ASKED = ("--model", "qwen3_4b_instruct_2507", "--device", "cpu", "--seeds", "1", "--dtypes", "float16")


def test_kernels_are_judged_in_processes_beside_each_other_and_kept(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "harness",
        "calibrate",
        *ASKED,
        "--kernels",
        "--workers",
        "2",
        "--out",
        str(tmp_path),
    ]
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
        (("--seeds", "0"), "--seeds must be positive"),
        (("--dtypes", "float8"), "--dtypes must be among float32, bfloat16, float16"),
        (("--workers", "0"), "--workers must be positive"),
        (("--tokens", "0"), "--tokens must be positive"),
    ],
)
def test_what_cannot_be_is_refused(
    change: tuple[str, str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate.main([*ASKED, *change, "--out", str(tmp_path)], io.StringIO()) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU here")
def test_a_gpu_that_is_not_here_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate.main([*ASKED, "--device", "cuda", "--out", str(tmp_path)], io.StringIO()) == 2
    assert "there is no GPU here" in capsys.readouterr().err
