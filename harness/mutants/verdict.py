"""Who saw a fault first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from harness.record import Check, Level, MutantOutcome
from harness.spec import Mutant


@dataclass(frozen=True)
class Seen:
    """The first check that refused, or the exception that ended the judgment."""

    level: Level | None
    rule: str
    where: str
    crash: str = ""

    def outcome(self, subject: str, mutant: Mutant, dtype: torch.dtype) -> MutantOutcome:
        return MutantOutcome(
            subject=subject,
            name=mutant.name,
            kind=mutant.kind,
            end="crash" if self.crash else "killed",
            level=self.level,
            rule=self.rule,
            where=self.where,
            dtype=str(dtype).removeprefix("torch."),
            reason=self.crash or (f"declared equivalent ({mutant.equivalent}), and seen" if mutant.equivalent else ""),
        )


def first_seen(levels: Iterator[list[Check]]) -> Seen | None:
    """Go up the levels until one refuses; None when all pass. A fault may raise anything: a kernel that does not run is
    refused too, and said to be so."""
    level: Level | None = None
    try:
        for checks in levels:
            broken = next((check for check in checks if not check.passed), None)
            if broken is not None:
                where = f"{broken.subject}, {broken.name}" + (f", {broken.where}" if broken.where else "")
                return Seen(broken.level, broken.rule, where)
            level = checks[-1].level if checks else level
    except Exception as error:  # noqa: BLE001
        return Seen(level, "raised", "", f"{type(error).__name__}: {str(error).strip()[:200]}")
    return None
