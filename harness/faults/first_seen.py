"""Who saw a fault first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from harness.build import ranks
from harness.build.dtypes import dtype_name
from harness.records.checks import Check, Level
from harness.records.kill_matrix import MutantOutcome
from harness.spec.mutant import Mutant
from harness.spec.optimization import Target


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
            dtype=dtype_name(dtype),
            reason=self.crash or (f"declared equivalent ({mutant.equivalent}), and seen" if mutant.equivalent else ""),
        )


def unseen(subject: str, mutant: Mutant) -> MutantOutcome:
    """Of a fault that no level refused."""
    return MutantOutcome(
        subject=subject,
        name=mutant.name,
        kind=mutant.kind,
        end="equivalent" if mutant.equivalent else "survived",
        reason=mutant.equivalent or "",
    )


def first_seen(levels: Iterator[list[Check]], target: Target | None = None) -> Seen | None:
    """Go up the levels until one refuses; None when all pass. A fault may raise anything: a kernel that does not run is
    refused too, and said to be so. Ranks that hold the target's model together stop where the first of them refuses."""
    level: Level | None = None
    try:
        for checks in levels:
            seen = _refused(checks)
            if target is not None and target.world > 1:
                found = ranks.first_found(target, seen)
                seen = replace(found[1], where=f"rank {found[0]}: {found[1].where}") if found else None
            if seen is not None:
                return seen
            level = checks[-1].level if checks else level
    except Exception as error:  # noqa: BLE001
        return Seen(level, "raised", "", f"{type(error).__name__}: {str(error).strip()[:200]}")
    return None


def _refused(checks: Sequence[Check]) -> Seen | None:
    broken = next((check for check in checks if not check.passed), None)
    if broken is None:
        return None
    where = f"{broken.subject}, {broken.name}" + (f", {broken.where}" if broken.where else "")
    return Seen(broken.level, broken.rule, where)
