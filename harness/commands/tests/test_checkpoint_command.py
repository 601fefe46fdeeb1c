"""`weights=DIR` as a user types it: a checkpoint is proven and its words recorded, one that cannot run is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.build.tests.test_tokenizer import checkpoint
from harness.records.run_file import read_run
from models.qwen3_4b_instruct_2507 import SPEC

ODD = replace(SPEC, sizes={"tiny": {**SPEC.sizes["tiny"], "num_attention_heads": 9, "num_key_value_heads": 3}})
UNEVEN = "9 query heads cannot be divided evenly among 2 ranks"


def ask(weights: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    asked = [f"+model={SPEC.name}", f"weights={weights}", "hardware=cpu", "workload=smoke", "timing=off"]
    command = [sys.executable, "-m", "harness", *asked, f"out={out}", "report=[]", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def test_a_checkpoint_is_proven_and_the_record_tells_what_it_said(tmp_path: Path) -> None:
    weights = tmp_path / "checkpoint"
    checkpoint(weights, SPEC)
    done = ask(weights, tmp_path / "out", "optimization=kv_cache")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "out").rglob("*.jsonl")
    _, (record,) = read_run(path)
    assert (record.status, record.case.size, record.case.weights) == ("passed", "full", str(weights))
    assert record.parity is not None
    assert any("says '" in check.where for check in record.parity.checks if check.level == "generation")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a model whose heads are no multiple of two."""
    directory = tmp_path_factory.mktemp("odd")
    checkpoint(directory, ODD)
    return directory


def test_heads_that_ranks_cannot_share_are_refused_before_anything_runs(odd: Path, tmp_path: Path) -> None:
    refused = ask(odd, tmp_path, "optimization=tensor_parallel")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert refused.stderr.startswith("error: nothing would run: tensor_parallel: ")
    assert UNEVEN in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_skips_what_ranks_cannot_share_and_plans_the_rest(odd: Path, tmp_path: Path) -> None:
    planned = ask(odd, tmp_path, "-m", "optimization=none,tensor_parallel", "plan=only")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert UNEVEN in " ".join(planned.stdout.split())
