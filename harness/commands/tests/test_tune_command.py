"""The tune command from its line: what it refuses before anything is built."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch

from harness.commands import tune

MODEL = "+model=qwen3_4b_instruct_2507"


def said(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return tune.main(arguments, out, err), out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "error: which model? Say +model=NAME"),
        (("+model=qwen3_4b",), "error: unknown model 'qwen3_4b': did you mean 'qwen3_4b_instruct_2507'?"),
        ((MODEL, "kernel=gemv"), "error: unknown option 'kernel': did you mean 'kernels'?"),
        ((MODEL, "dtype=bfloat"), "error: unknown dtype 'bfloat': did you mean 'bfloat16'?"),
        ((MODEL, "gemv"), "error: 'gemv' is no option: write NAME=VALUE, of model, kernels, size, dtype, out"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], line: str) -> None:
    assert said(*arguments) == (2, "", f"{line}\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_line_says_so() -> None:
    assert said(MODEL)[::2] == (
        2,
        "error: tune needs a GPU: the launches of an interpreted kernel have no speed to compare\n",
    )


def test_it_is_a_command_of_the_harness() -> None:
    done = subprocess.run([sys.executable, "-m", "harness", "tune", "+model=X"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown model 'X': known: glm_4_7")


def test_help_names_its_options() -> None:
    code, out, _ = said("--help")
    assert code == 0
    assert all(f"{name}=" in out for name in tune.OPTIONS)
