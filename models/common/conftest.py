"""CUDA C++ compiled for a GPU that need not be here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[Path], str]:
    """A source -> what the assembler says of its kernels, their registers and spills."""
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc here: the kernel is compiled where there is one")

    def compile_for_hopper(source: Path) -> str:
        made = subprocess.run(
            [
                "nvcc",
                "-O3",
                "-std=c++17",
                "-arch=sm_90",
                "-Xptxas",
                "-v",
                "-cubin",
                str(source),
                "-o",
                str(tmp_path / "x"),
            ],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        return made.stderr

    return compile_for_hopper
