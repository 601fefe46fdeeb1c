"""The kernels around the projections: judged in the interpreter, compiled for sm_90."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]


def judge(mode: str, dtype: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"TRITON_INTERPRET": "1"} if mode == "interpret" else {})
    script = Path(__file__).with_name("layer_judge.py")
    done = subprocess.run([sys.executable, script, mode, dtype], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes_in_the_interpreter(dtype: str) -> None:
    said = judge("interpret", dtype)
    assert set(said) == {"rms_norm", "add_rms_norm", "swiglu", "norm_rotate_write", "prefill_attention"}
    assert {name: found["failed"] for name, found in said.items() if found["failed"]} == {}
    assert all(found["checks"] > 40 for found in said.values())


def test_every_kernel_compiles_for_sm_90_in_bfloat16_and_attention_uses_its_tensor_cores() -> None:
    built = judge("compile", "bfloat16")
    assert {label.split("/")[0] for label in built} == {
        "rms_norm",
        "add_rms_norm",
        "swiglu",
        "norm_rotate_write",
        "prefill_attention",
    }
    assert all(label.endswith("wgmma") for label in built if label.startswith("prefill_attention"))
