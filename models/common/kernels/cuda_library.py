"""Compile CUDA C++ sources with nvcc through torch's extension loader, once per version."""

from __future__ import annotations

import ctypes
import fcntl
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import cpp_extension

FLAGS = ("-O3", "-std=c++17")


@cache
def library(source: Path) -> ctypes.CDLL:
    """Return `source` as a loaded library; raise what torch raises where no nvcc is found or it fails."""
    name = f"inference_pio_{source.stem}"
    place = Path(cpp_extension._get_build_directory(name, verbose=False))
    # The loader's own lock outlives a process that is killed while it builds, and would be waited for without end.
    with (place / "building").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (place / "lock").unlink(missing_ok=True)
        built = cpp_extension.load(
            name,
            [str(source)],
            extra_cuda_cflags=list(FLAGS),
            build_directory=str(place),
            is_python_module=False,
        )
    return ctypes.CDLL(built)


def start(source: Path, tensors: Sequence[Tensor], *arguments: Any) -> None:
    """Call the function of `source` that has its name, on the stream and the device of the first tensor: with an array
    of the tensors' addresses, ctypes `arguments`, and the stream. It gives a text where its launch fails:
    RuntimeError."""
    function = getattr(library(source), source.stem)
    function.restype = ctypes.c_char_p
    addresses = (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
    with torch.cuda.device(tensors[0].device):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        failure = function(addresses, *arguments, stream)
    if failure is not None:
        raise RuntimeError(f"{source.stem} did not start: {failure.decode()}")


def integers(values: Sequence[int]) -> ctypes.Array[ctypes.c_longlong]:
    """As an argument of `start`."""
    return (ctypes.c_longlong * len(values))(*map(int, values))
