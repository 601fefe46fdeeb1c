"""What is being done, told while it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from harness.commands.compare_live import Say


@contextmanager
def status(err: TextIO, lines: bool = True) -> Iterator[Say]:
    """One line that changes on a terminal; elsewhere a line each, or with `lines=False` none."""
    if not err.isatty():
        yield lambda text: print(text, file=err, flush=True) if lines else None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(file=err).status("") as shown:
        yield lambda text: shown.update(escape(text))
