"""Read the settings of this process that change what torch computes, or how fast, whoever calls it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

ENVIRONMENT = ("CUBLAS", "CUDA", "CUDNN", "GOMP", "INDUCTOR", "KMP", "MKL", "NCCL", "NVIDIA", "OMP", "PYTORCH", "TORCH",
               "TRITON")  # fmt: skip
"""How the names of environment variables begin that torch, Triton and their libraries read."""

OWN = frozenset({"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"})
"""What the OpenMP runtime sets for itself when it is loaded."""

_CUDA, _CUDNN = torch.backends.cuda, torch.backends.cudnn
_SETTINGS: Mapping[str, Callable[[], object]] = {
    "float32 matmul precision": torch.get_float32_matmul_precision,
    "TF32 in matmul": lambda: _CUDA.matmul.allow_tf32,
    "float16 sums in float16 matmul": lambda: _CUDA.matmul.allow_fp16_reduced_precision_reduction,
    "bfloat16 sums in bfloat16 matmul": lambda: _CUDA.matmul.allow_bf16_reduced_precision_reduction,
    "float16 accumulation in matmul": lambda: getattr(_CUDA.matmul, "allow_fp16_accumulation", None),
    "cuDNN": lambda: _CUDNN.enabled,
    "cuDNN benchmark": lambda: _CUDNN.benchmark,
    "cuDNN deterministic": lambda: _CUDNN.deterministic,
    "TF32 in cuDNN": lambda: _CUDNN.allow_tf32,
    "oneDNN": lambda: torch.backends.mkldnn.enabled,
    "oneDNN precision": lambda: torch._C._get_fp32_precision_getter("mkldnn", "matmul"),
    "flash attention": _CUDA.flash_sdp_enabled,
    "memory-efficient attention": _CUDA.mem_efficient_sdp_enabled,
    "attention by products": _CUDA.math_sdp_enabled,
    "cuDNN attention": _CUDA.cudnn_sdp_enabled,
    "reduced sums in attention by products": _CUDA.fp16_bf16_reduction_math_sdp_allowed,
    "order of attention backends": lambda: torch._C._get_sdp_priority_order(),
    "linear algebra library": lambda: _CUDA.preferred_linalg_library(),
    "matmul library": lambda: _CUDA.preferred_blas_library(),
    "default dtype": torch.get_default_dtype,
    "default device": lambda: torch.get_default_device(),
    "deterministic algorithms": torch.are_deterministic_algorithms_enabled,
    "deterministic algorithms only warn": torch.is_deterministic_algorithms_warn_only_enabled,
    "uninitialized memory is filled": lambda: getattr(torch.utils.deterministic, "fill_uninitialized_memory", None),
    "autocast on a CPU": lambda: (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
    "autocast on a GPU": lambda: (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")),
    "threads": torch.get_num_threads,
    "subnormal numbers are flushed": lambda: not torch.full((2,), 1e-40).mul(1.0).any().item(),
    "hooks of every module": lambda: tuple(len(hooks) for hooks in _global_hooks()),
    "function modes": lambda: torch._C._len_torch_function_stack(),
    "dispatch modes": lambda: torch._C._len_torch_dispatch_stack(),
}


def process_state() -> dict[str, str]:
    """Map each setting to its value in words; environment variables to `$NAME`. Some settings are others once torch
    has used the GPU, so it is used first."""
    if torch.cuda.is_available():
        # The order of attention backends is settled by the first call.
        one = torch.zeros(1, 1, 1, 64, dtype=torch.bfloat16, device="cuda")
        torch.nn.functional.scaled_dot_product_attention(one, one, one)
    found = {name: _told(read) for name, read in _SETTINGS.items()}
    found |= {f"${name}": value for name, value in os.environ.items() if _is_read(name)}
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Say of every setting that is another one now: `TF32 in matmul: False, now True`."""
    return [
        f"{name}: {before.get(name, 'unset')}, now {after.get(name, 'unset')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _is_read(variable: str) -> bool:
    """Where a cache lies changes no answer, and torch sets such variables itself."""
    return variable.startswith(ENVIRONMENT) and not variable.endswith("_DIR") and variable not in OWN


def _told(read: Callable[[], object]) -> str:
    """A version of torch that has no such setting says so, before and after alike."""
    try:
        return str(read())
    except (AttributeError, RuntimeError) as error:
        return f"none ({type(error).__name__})"


def _global_hooks() -> Iterator[Mapping[Any, Any]]:
    kept: Any = torch.nn.modules.module
    yield from (kept._global_forward_pre_hooks, kept._global_forward_hooks)
