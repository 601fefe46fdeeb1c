"""Our own build with less of the stack: what it must not be slower than."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from harness.build import builder
from harness.timing.arms.arm import ArmAbsent, Shape
from harness.timing.arms.candidate import OurBuild

EAGER = "eager"
"""Nothing of it."""
ONE_DEVICE = "one_device"
"""All that does not need ranks."""
LABELS = {EAGER: "our eager build, nothing optimized", ONE_DEVICE: "the same stack on one device"}


class Sibling(OurBuild):
    """Shares the tensors of the Hugging Face model `hf`, a checkpoint's too; whole on every rank, as the reference."""

    def __init__(self, name: str, config: builder.BuildConfig, hf: nn.Module, shared: int = 0) -> None:
        """Of the candidate that `config` describes, of whose prompts `shared` tokens were seen before."""
        super().__init__()
        self.name, self.label, self.hf, self.stack = name, LABELS[name], hf, config.stack
        menu = config.spec.menu
        kept = () if name == EAGER else tuple(item for item in config.stack if "ranks" not in menu[item].needs)
        source, target = replace(config.source, directory=None), replace(config.target, rank=0, world=1)
        self.config = replace(config, source=source, stack=kept, target=target)
        self.cold = bool(shared) and name == ONE_DEVICE

    def open(self, shape: Shape) -> None:
        if self.config.stack == self.stack:
            raise ArmAbsent("it is the candidate itself")
        if self.cold:
            raise ArmAbsent("it would compute the tokens that the candidate may have seen before")
        self.model = builder.candidate(self.config, self.hf).model
        super().open(shape)
