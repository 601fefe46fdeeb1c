"""Does what is timed do the kernel's work? Its outputs against the twin's, before its samples and after them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from harness.errors import HarnessError
from harness.spec.kernel import Kernel
from harness.timing.buffers import Inputs, copies_of, restore, rewrite

AGREEMENT = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Largest relative Frobenius error of kernel against twin, by output dtype: the rounding of a few operations in a row.
Parity judges the kernel; this only makes sure that the buffers being timed hold the work that parity judged."""


class KernelDisagreement(HarnessError):
    """A kernel whose result on the timed buffers is not its twin's: its speed would be that of other work."""


@dataclass(frozen=True)
class Loop:
    """Launches a function once on each copy of its inputs."""

    last: Mapping[str, torch.Tensor]
    """What the launch on the last copy wrote, wherever the next replay writes it again."""
    replay: Callable[[], None]
    restore: Callable[[], None]
    from_host: str | None
    """Why no graph holds the launches, where none does."""


def require_agreement(kernel: Kernel, inputs: Inputs, subject: str) -> None:
    """Launch on `inputs` themselves, run the twin on what they held before, and compare every output."""
    pristine = copies_of(inputs, 1)[0]
    outputs = dict(kernel.launch(**inputs))
    _require_equal(kernel, outputs, kernel.eager(**copies_of(pristine, 1)[0]), subject)
    restore(kernel.mutates, pristine, (inputs,))


def require_replayed(kernel: Kernel, loop: Loop, inputs: Inputs, subject: str) -> None:
    """Replay what was timed once more, with other values in the last copy of its `inputs`, and compare what it wrote
    there: a replay that writes nothing, or what it wrote before, has no time."""
    loop.restore()
    rewrite(inputs)
    expected = kernel.eager(**copies_of(inputs, 1)[0])
    loop.replay()
    _require_equal(kernel, loop.last, expected, f"{subject}, after timing and on rewritten inputs")


def _require_equal(
    kernel: Kernel, outputs: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], subject: str
) -> None:
    if outputs.keys() != expected.keys():
        raise KernelDisagreement(f"{subject}: outputs {sorted(outputs)}, the twin gives {sorted(expected)}")
    for name, twin in expected.items():
        error, limit = _difference(outputs[name], twin), agreement_limit(kernel, name, twin.dtype)
        if not error <= limit:
            raise KernelDisagreement(
                f"{subject}: output {name} differs from the twin's by {error:.3g} (at most {limit:.3g}): a time would "
                "be that of other work"
            )


def agreement_limit(kernel: Kernel, output: str, dtype: torch.dtype) -> float:
    """0 for what is only moved or is not a wide float, else the rounding bound of its dtype."""
    return 0.0 if output in kernel.bitwise_outputs else AGREEMENT.get(dtype, 0.0)


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative Frobenius error; infinite where shape or dtype differ."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return math.inf
    if torch.equal(found, expected):
        return 0.0
    upcast = expected.double()
    return float((found.double() - upcast).norm() / upcast.norm().clamp_min(torch.finfo(torch.float64).tiny))
