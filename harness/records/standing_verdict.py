"""The op-level verdict of another run, taken over because nothing that it depends on has changed."""

from __future__ import annotations

from harness.records.case import Frozen


class StandingVerdict(Frozen):
    """Which kernel's checks in one dtype another run made."""

    kernel: str
    dtype: str
    run: str
    """The run whose record holds the checks first."""
    key: str
    """Hash of all that they depend on: sources of the kernels and of the gate, seed, device, versions, settings."""
