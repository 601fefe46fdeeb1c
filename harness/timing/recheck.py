"""Do the arms compute the model, phase by phase: in the blocks that were timed, and afterwards on rewritten inputs?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.parity.tolerance.rules import relative_frobenius
from harness.records.record import Phase
from harness.spec.model import ModelSpec
from harness.timing.arms.arm import Answer, Arm, Shape
from harness.timing.feeds import Feed

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


@dataclass(frozen=True)
class Sample:
    """What one arm gave in a timed block, and what it was fed there; copies."""

    phase: Phase
    feed: Feed
    answer: Answer


def outputs(arm: Arm, shape: Shape, first: Tensor) -> Outputs:
    """The arm's logits now, as copies: some arms answer in a buffer that their next call overwrites."""
    found: dict[Phase, Tensor] = {"prefill": arm.prefill(shape.inputs).clone()}
    if shape.decode_steps:
        arm.rewind()
        found["decode"] = arm.decode(first, 1).logits.clone()
    return found


class Judge:
    """A reference that was not timed, on the buffers that were."""

    def __init__(self, reference: Arm, shape: Shape) -> None:
        self.reference, self.shape = reference, shape
        self.prompt_name = ""
        self.prefilled: Tensor | None = None
        reference.open(shape)

    def outputs(self, first: Tensor) -> Outputs:
        """Its logits on what the buffers hold now."""
        self.prefilled = None
        return outputs(self.reference, self.shape, first)

    def expected(self, sample: Sample) -> Tensor:
        """Its logits [B, vocab] where the arm gave `sample.answer`: after the same prompt, and after the very tokens
        that the arm's steps were fed. What an arm chose at a near-tie is not held against it."""
        prefilled = self._behind(sample.feed)
        if sample.phase == "prefill":
            return prefilled
        self.reference.rewind()
        steps = [self.reference.decode(tokens, 1).logits for tokens in sample.answer.fed]
        return steps[-1]

    def _behind(self, feed: Feed) -> Tensor:
        """Prefill the prompt, unless it is the one that was prefilled last."""
        if self.prefilled is None or feed.prompt_name != self.prompt_name:
            self.shape.inputs.overwrite(feed.prompt)
            self.prefilled, self.prompt_name = self.reference.prefill(self.shape.inputs).clone(), feed.prompt_name
        return self.prefilled


def limit_of(spec: ModelSpec, dtype: torch.dtype) -> float:
    """How far rounding to `dtype` can carry the model's logits."""
    return ROUTED if spec.routing and dtype != torch.float32 else AFTERWARDS[dtype]


def require_model(name: str, found: Outputs, expected: Outputs, limit: float, where: str = "after timing") -> None:
    """Raises WrongAfterwards where any phase is further from the reference than the limit."""
    for phase, theirs in expected.items():
        error = relative_frobenius(found[phase], theirs)
        if not error <= limit:
            raise WrongAfterwards(
                f"{name}: {where}, its {phase} logits are {error:.3g} from the reference's (limit {limit:g}): "
                "what was timed does not compute the model"
            )


def require_computed(name: str, found: Outputs, timed: Iterable[Tensor]) -> None:
    """Raises WrongAfterwards where an output on rewritten inputs is one that was `timed` on the inputs before."""
    before = tuple(timed)
    for phase, ours in found.items():
        if any(torch.equal(ours, theirs) for theirs in before):
            raise WrongAfterwards(f"{name}: rewritten inputs gave the timed {phase} output again: it is not computed")


def require_sampled(name: str, samples: Iterable[Sample], judge: Judge, limit: float) -> None:
    """Raises WrongAfterwards where what an arm gave in a timed block is not what the reference gives there."""
    for sample in samples:
        found, expected = {sample.phase: sample.answer.logits}, {sample.phase: judge.expected(sample)}
        require_model(name, found, expected, limit, "in a timed block")
