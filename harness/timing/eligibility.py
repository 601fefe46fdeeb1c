"""Which part of a stack has a speed of its own on a target. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.spec.model import ModelSpec
from harness.spec.optimization import Optimization, Target

INTERPRETED = "Triton kernels are interpreted on this machine and have no speed"
UNPACKED = "what reads weights in fewer bits is a Triton kernel; without it every product unpacks them first"


def untimed(spec: ModelSpec, stack: Iterable[str], target: Target) -> dict[str, str]:
    """Name -> why, of the optimizations of a stack that are proven for the target and have no speed on it."""
    if target.kernels != "none":
        return {}
    reasons = {name: _reason(spec.menu[name]) for name in stack}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def told(what: str, reasons: Mapping[str, str]) -> tuple[str, ...]:
    """One line for each reason, with all that it is the reason for: `WHAT NAME, NAME: REASON`."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(name)
    return tuple(f"{what} {', '.join(names)}: {reason}" for reason, names in groups.items())


def _reason(item: Optimization) -> str | None:
    if "triton" in item.needs:
        return INTERPRETED
    return UNPACKED if "rounded_weights" in item.provides and item.kernels else None
