"""How long a stranger waits for the first verdict on each model: the README's command with nothing kept from before.

python -m pytest benchmarks/bench_first_result.py --benchmark-enable
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.build import registry
from harness.records.run_file import read_file

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = {"cpu": 180.0, "cuda": 240.0}
"""On two cores of a CPU, and on an H200 with timing."""
CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "CUDA_CACHE_PATH", "XDG_CACHE_HOME",
          "XDG_RUNTIME_DIR")  # fmt: skip


@pytest.mark.parametrize("name", registry.names())
def test_the_first_result_comes_within_minutes(benchmark: Any, name: str, tmp_path: Path) -> None:
    if not benchmark.enabled:
        pytest.skip("takes minutes on a quiet machine: --benchmark-enable")
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    command = [sys.executable, "-m", "harness", f"+model={name}", "report=[]", f"out={tmp_path / 'out'}"]
    fresh = {cache: str(tmp_path / cache.lower()) for cache in CACHES}
    for folder in fresh.values():
        Path(folder).mkdir(mode=0o700)

    def ask() -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | fresh
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=1800)

    benchmark.pedantic(ask, rounds=1, iterations=1)
    (file,) = (tmp_path / "out").rglob("*.jsonl")
    assert [record.status for record in read_file(file).records] == ["passed"]
    assert benchmark.stats.stats.max <= LIMIT_S[kind]
