"""CUDA C++ sources of this directory, compiled once per version by nvcc through torch's extension loader."""

from __future__ import annotations

import ctypes
import fcntl
from functools import cache
from pathlib import Path

from torch.utils import cpp_extension

FLAGS = ("-O3", "-std=c++17")


@cache
def library(stem: str) -> ctypes.CDLL:
    """`stem`.cu beside this file as a loaded library. Raises what torch raises where no nvcc is found or it fails."""
    name = f"inference_pio_{stem}"
    place = Path(cpp_extension._get_build_directory(name, verbose=False))
    # The loader's own lock outlives a process that is killed while it builds, and would be waited for without end.
    with (place / "building").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (place / "lock").unlink(missing_ok=True)
        built = cpp_extension.load(
            name,
            [str(Path(__file__).with_name(f"{stem}.cu"))],
            extra_cuda_cflags=list(FLAGS),
            build_directory=str(place),
            is_python_module=False,
        )
    return ctypes.CDLL(built)
