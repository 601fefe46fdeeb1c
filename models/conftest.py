"""Judges: scripts beside the tests that run in a process of their own, because whether Triton interprets or compiles is
settled when a kernel is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def run_judge(script: Path, *arguments: str, interpret: bool) -> Any:
    """What `script` prints, read as JSON; with `interpret` its Triton kernels run in the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment |= {"PYTHONPATH": os.pathsep.join(paths)} | ({"TRITON_INTERPRET": "1"} if interpret else {})
    done = subprocess.run([sys.executable, script, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def judge() -> Callable[..., Any]:
    return run_judge


@pytest.fixture(scope="session")
def judge_kernels() -> Callable[..., Any]:
    """`(mode, dtype, "module:NAME", ...)`: kernel name -> failed checks, or what was compiled."""

    def run(mode: str, dtype: str, *places: str) -> Any:
        return run_judge(ROOT / "models/tests/kernel_judge.py", mode, dtype, *places, interpret=mode == "interpret")

    return run


@pytest.fixture(scope="session")
def judge_full() -> Callable[..., Any]:
    """`(model, mode)`: what holding `full` against Hugging Face with its kernels found; see `full_parity_judge`."""

    def run(model: str, mode: str) -> Any:
        return run_judge(ROOT / "models/tests/full_parity_judge.py", model, mode, interpret=mode == "interpret")

    return run


@pytest.fixture(scope="session")
def judge_modules() -> Callable[..., dict[str, float]]:
    """`("module:NAME", ...)`: what functions yield in a process with Triton's interpreter, comparison -> error."""

    def run(*places: str) -> dict[str, float]:
        found: dict[str, float] = run_judge(ROOT / "models/tests/module_judge.py", *places, interpret=True)
        return found

    return run


@pytest.fixture(scope="module")
def ranks(judge: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """What worlds of 1, 2 and 4 real processes make of the model whose SPEC the test's module names: world -> `random`
    or `checkpoint` weights -> `error`, `alike` and `held`."""
    script = Path(__file__).parent / "common" / "parallel" / "tests" / "tensor_parallel_judge.py"
    return judge(script, request.module.SPEC.name, interpret=False)
