"""Our own build without any optimization: what no stack may be slower than."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from harness import build
from harness.arms.arm import ArmAbsent, Shape
from harness.arms.candidate import Candidate
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target

EAGER = "eager"


class Eager(Candidate):
    """Shares the tensors of the Hugging Face model `hf`, a checkpoint's too; whole on every rank, as the reference."""

    def __init__(
        self, spec: ModelSpec, source: build.Source, hf: nn.Module, stack: tuple[str, ...], target: Target
    ) -> None:
        super().__init__(None, EAGER, "our eager build, nothing optimized")
        self.spec, self.source, self.hf, self.stack, self.target = spec, source, hf, stack, target

    def open(self, shape: Shape) -> None:
        if not self.stack:
            raise ArmAbsent("the candidate is the eager build itself")
        held = replace(self.source, directory=None)
        self.model, _ = build.candidate(self.spec, held, self.hf, (), self.target)
        super().open(shape)
