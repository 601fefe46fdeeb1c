"""Checks written one by one as they are made: what was found before a process ended without its record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from harness.records.checks import Check, Divergence, Parity

SUFFIX = ".checks.jsonl"


def beside(fragment: Path) -> Path:
    """Name the log of the process that is to write `fragment`."""
    return fragment.with_name(f"{fragment.stem}{SUFFIX}")


def append(log: Path, checks: Iterable[Check]) -> None:
    """Add the checks, a JSON line each, so that they outlive this process."""
    with log.open("a") as file:
        file.writelines(f"{check.model_dump_json()}\n" for check in checks)


def refused(log: Path) -> Parity | None:
    """Read what a process had found when it ended; None where it had refused nothing, or had written nothing."""
    checks = read(log)
    broken = next((check for check in checks if not check.passed), None)
    return Parity(checks=checks, first_divergence=Divergence.of(broken)) if broken else None


def read(log: Path) -> tuple[Check, ...]:
    """Every check whose line is whole: the last may have been cut off. None where there is no log."""
    return tuple(_lines(log)) if log.exists() else ()


def _lines(log: Path) -> Iterator[Check]:
    for line in log.read_text().splitlines():
        try:
            yield Check.model_validate_json(line)
        except ValidationError:
            return
