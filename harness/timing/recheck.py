"""After timing, on inputs rewritten in place: does every arm that was timed still compute the model, phase by phase?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.parity.tolerance.rules import relative_frobenius
from harness.records.record import Phase
from harness.spec.model import ModelSpec
from harness.timing.arms.arm import Arm, Shape

AFTERWARDS = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-1}
"""Relative Frobenius distance to the reference's logits: that the timed buffers still compute the model at all.
Precision is proven before, on every level."""
ROUTED = 0.5
"""The same in the half types where tokens choose experts: one other choice in the token that is compared moved the
logits of a right build by 0.117 on an H200, and logits that have nothing to do with each other are about 1.4 apart."""


class WrongAfterwards(HarnessError):
    """An arm whose timed buffers do not compute the model."""


Outputs = Mapping[Phase, Tensor]
"""Logits [B, vocab] of the last token of a prefill and of one decode step."""


def outputs(arm: Arm, shape: Shape, first: Tensor) -> Outputs:
    """The arm's logits now, as copies: some arms answer in a buffer that their next call overwrites."""
    found: dict[Phase, Tensor] = {"prefill": arm.prefill(shape.inputs).clone()}
    if shape.decode_steps:
        arm.rewind()
        found["decode"] = arm.decode(first, 1).clone()
    return found


def judge_of(reference: Arm, shape: Shape, first: Tensor) -> Outputs:
    """Logits of a reference that was not timed."""
    reference.open(shape)
    return outputs(reference, shape, first)


def limit_of(spec: ModelSpec, dtype: torch.dtype) -> float:
    """How far rounding to `dtype` can carry the model's logits."""
    return ROUTED if spec.routing and dtype != torch.float32 else AFTERWARDS[dtype]


def require_model(name: str, found: Outputs, expected: Outputs, limit: float) -> None:
    """Raises WrongAfterwards where any phase is further from the reference than the limit."""
    for phase, theirs in expected.items():
        error = relative_frobenius(found[phase], theirs)
        if not error <= limit:
            raise WrongAfterwards(
                f"{name}: after timing, its {phase} logits are {error:.3g} from the reference's (limit {limit:g}): "
                "what was timed does not compute the model"
            )


def require_computed(name: str, found: Outputs, timed: Iterable[Tensor]) -> None:
    """Raises WrongAfterwards where an output on rewritten inputs is one that was `timed` on the inputs before."""
    before = tuple(timed)
    for phase, ours in found.items():
        if any(torch.equal(ours, theirs) for theirs in before):
            raise WrongAfterwards(f"{name}: rewritten inputs gave the timed {phase} output again: it is not computed")
