"""Exit codes of every command: its own answer, or 2 and one line for a mistake in what was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from harness.errors import HarnessError


def answered(work: Callable[[], int], err: TextIO) -> int:
    """What `work` answers; 2 where it raises an error on purpose, which `err` is told in one line."""
    try:
        return work()
    except HarnessError as error:
        print(f"error: {one_line(error)}", file=err)
        return 2


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
