"""Triton kernels compiled for a GPU that is not here: proof that the bfloat16 variants, which the interpreter cannot
run, compile and fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.errors import TritonError
from triton.runtime.jit import JITFunction

from harness.build.dtypes import dtype_name
from harness.errors import HarnessError, UserError
from harness.spec.kernel import Compilation, Kernel

if TYPE_CHECKING:
    import torch

SHARED_BYTES = {80: 166_912, 86: 101_376, 89: 101_376, 90: 232_448}
"""Shared memory that one block may take, by compute capability."""
WARP_THREADS = 32
ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Compiled:
    """One Triton function compiled ahead of time."""

    kernel: str
    function: str
    dtype: torch.dtype
    capability: int
    shared_bytes: int
    wgmma: bool
    """Whether it multiplies on the warp-group tensor cores."""

    def label(self) -> str:
        dtype = dtype_name(self.dtype)
        cores = ", wgmma" if self.wgmma else ""
        return f"{self.kernel}/{self.function} {dtype} sm_{self.capability}: {self.shared_bytes} B shared{cores}"


def compile_ahead(kernels: Sequence[Kernel], dtype: torch.dtype, capability: int = 90) -> list[Compiled]:
    """Compile every compilation that the kernels declare for `dtype`, in order; needs no GPU.

    Pointers and integers are taken as multiples of 16, as in the variant that the launcher picks for aligned tensors:
    it is the one that pipelines through shared memory. Raises UserError in an interpreting process, HarnessError with
    the kernel's name where a compilation fails, names the wrong arguments, or takes more shared memory than exists.
    """
    if triton.knobs.runtime.interpret:
        raise UserError(
            "TRITON_INTERPRET is set: Triton would interpret instead of compiling; use a process without it"
        )
    if capability not in SHARED_BYTES:
        raise UserError(f"sm_{capability}: its shared memory is not known here, so nothing could be said to fit")
    return [
        _compile(kernel.name, compilation, dtype, capability)
        for kernel in kernels
        for compilation in kernel.compilations(dtype)
    ]


def _compile(kernel: str, wanted: Compilation, dtype: torch.dtype, capability: int) -> Compiled:
    function = _jit_function(kernel, wanted.function)
    about = f"kernel {kernel}: {function.__name__} for {dtype}"
    source = _source(about, function, wanted.signature, wanted.constants)
    options = {"num_warps": wanted.num_warps, "num_stages": wanted.num_stages}
    try:
        built = triton.compile(source, target=GPUTarget("cuda", capability, WARP_THREADS), options=options)
    except (TritonError, RuntimeError, TypeError, ValueError) as error:
        raise HarnessError(f"{about} does not compile for sm_{capability}: {error}") from error
    shared, limit = built.metadata.shared, SHARED_BYTES[capability]
    if shared > limit:
        raise HarnessError(f"{about} takes {shared} bytes of shared memory, sm_{capability} has {limit}: no launch")
    return Compiled(kernel, function.__name__, dtype, capability, shared, "wgmma" in built.asm["ptx"])


def _jit_function(kernel: str, function: Any) -> Any:
    """The function under decorators such as `triton.autotune` and `triton.heuristics`."""
    while not isinstance(function, JITFunction):
        if not hasattr(function, "fn") or type(function).__name__ == "InterpretedFunction":
            raise UserError(f"kernel {kernel}: {function!r} is not a compilable Triton function (was it interpreted?)")
        function = function.fn
    return function


def _source(about: str, function: Any, signature: Mapping[str, str], constants: Mapping[str, Any]) -> Any:
    names = list(function.arg_names)
    constexpr = {names[parameter.num] for parameter in function.params if parameter.is_constexpr}
    wrong = {
        "unknown": (signature.keys() | constants.keys()) - set(names),
        "missing": set(names) - signature.keys() - constants.keys(),
        "given twice": signature.keys() & constants.keys(),
        "constexpr without a value": constexpr & signature.keys(),
    }
    if found := "; ".join(f"{word}: {', '.join(sorted(those))}" for word, those in wrong.items() if those):
        raise HarnessError(f"{about}: its declared arguments do not fit the function: {found}")
    types = {name: signature.get(name, "constexpr") for name in names}
    aligned = {(names.index(name),): ALIGNED for name, kind in signature.items() if kind[0] in "*iu" and kind != "i1"}
    return ASTSource(function, types, constants, aligned)
