"""What the weights were like that a build was judged with, beside what trained ones are known for."""

from __future__ import annotations

from typing import Literal

from harness.records.case import Frozen

JudgedWeights = Literal["random", "trained_like", "checkpoint"]


class Statistic(Frozen):
    """One measure of the reference on one prompt; shares are between 0 and 1."""

    weights: JudgedWeights
    name: str
    value: float
    low: float
    """Trained models are known for values from here ..."""
    high: float
    """... to here."""

    @property
    def like_trained(self) -> bool:
        return self.low <= self.value <= self.high
