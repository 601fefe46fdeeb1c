"""The reference stayed what it was while a candidate was built and judged beside it."""

from __future__ import annotations

from harness.build.reference_integrity import ReferenceIntegrity
from harness.records.checks import Check

NAMED = 4
"""Changes that a check names."""


def check_unchanged(integrity: ReferenceIntegrity) -> list[Check]:
    """One check for each aspect: how many settings, weights and functions are others now, and who changed them."""
    integrity.look("the judged candidate")
    return [
        Check(
            level="reference",
            subject=aspect,
            name="before and after",
            rule="unchanged",
            error=len(changes),
            noise=0,
            limit=0,
            where="; ".join(f"{change} ({suspect})" for change, suspect in list(changes.items())[:NAMED]),
        )
        for aspect, changes in integrity.found.items()
    ]
