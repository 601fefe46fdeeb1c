"""Our own build with less of the stack: what it must not be slower than."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from harness.build import builder
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target
from harness.timing.arms.arm import ArmAbsent, Shape
from harness.timing.arms.candidate import Candidate

EAGER = "eager"
"""Nothing of it."""
ONE_DEVICE = "one_device"
"""All that does not need ranks."""
LABELS = {EAGER: "our eager build, nothing optimized", ONE_DEVICE: "the same stack on one device"}


class Sibling(Candidate):
    """Shares the tensors of the Hugging Face model `hf`, a checkpoint's too; whole on every rank, as the reference."""

    def __init__(
        self,
        name: str,
        spec: ModelSpec,
        source: builder.Source,
        hf: nn.Module,
        stack: tuple[str, ...],
        target: Target,
        shared: int = 0,
    ) -> None:
        """Of the candidate with `stack`, of whose prompts `shared` tokens were seen before."""
        super().__init__(None, name, LABELS[name])
        self.spec, self.source, self.hf, self.stack = spec, replace(source, directory=None), hf, stack
        self.kept = () if name == EAGER else tuple(item for item in stack if "ranks" not in spec.menu[item].needs)
        self.target = replace(target, rank=0, world=1)
        self.cold = bool(shared) and name == ONE_DEVICE

    def open(self, shape: Shape) -> None:
        if self.kept == self.stack:
            raise ArmAbsent("it is the candidate itself")
        if self.cold:
            raise ArmAbsent("it would compute the tokens that the candidate may have seen before")
        self.model, _ = builder.candidate(self.spec, self.source, self.hf, self.kept, self.target)
        super().open(shape)
