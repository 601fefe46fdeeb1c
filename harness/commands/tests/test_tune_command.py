"""The tune command from its line: what it refuses before anything is built."""

from __future__ import annotations

import io

import pytest
import torch

from harness.commands.main import main
from harness.commands.tune import USAGE

MODEL = "+model=qwen3_4b_instruct_2507"


def said(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(["tune", *arguments], out, err), out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "error: tune: no model was named: add +model=NAME"),
        (("+model=qwen3_4b",), "error: unknown model 'qwen3_4b': did you mean 'qwen3_4b_instruct_2507'?"),
        ((MODEL, "kernel=gemv"), "error: unknown option of tune 'kernel': did you mean 'kernels'?"),
        ((MODEL, "dtype=bfloat"), "error: tune: dtype=bfloat: must be one of bfloat16, float16, float32"),
        ((MODEL, "--out=x"), "error: tune: '--out=x' is written out=VALUE"),
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


def test_help_names_its_options() -> None:
    code, out, _ = said("--help")
    assert code == 0
    assert all(f"{option.name}=" in out for option in USAGE.options)
