"""One requirement of a sign-off, held against the evidence."""

from __future__ import annotations

from typing import Literal

from harness.records.case import Frozen

Requirement = Literal[
    "record", "outcome", "parity", "faults", "source", "versions",
    "caches", "processes", "protocol", "peers", "prefill", "decode", "memory", "history",
]  # fmt: skip


class Finding(Frozen):
    """One requirement against the evidence."""

    requirement: Requirement
    met: bool
    found: str
    supply: str = ""
    """The command that would supply what is missing."""
    waived: str = ""
    """Who answers for it, and why, where it is not met."""
