"""How a run goes, told to one listener by as many cases as run at a time."""

from __future__ import annotations

import re
from threading import Lock
from typing import Protocol

from harness.records.case import Case
from harness.records.record import Record

PROGRESS = re.compile(r"^::progress (\d*\.?\d+) (.*)$")


class Progress(Protocol):
    """Who is told how the run goes."""

    def begin(self, case: Case) -> None: ...
    def part(self, name: str) -> None: ...
    def say(self, fraction: float, text: str) -> None: ...
    def end(self, record: Record) -> None: ...


class Shared:
    """A listener that several threads tell; `named` puts the case before what is said of it."""

    def __init__(self, progress: Progress, named: bool) -> None:
        self.progress = progress
        self.named = named
        self.lock = Lock()

    def of(self, case: Case) -> Told:
        return Told(self, case)


class Told:
    """What one case tells."""

    def __init__(self, shared: Shared, case: Case) -> None:
        self._to = shared
        self._before = f"{case.label()}: " if shared.named else ""
        self.last = ""
        """What the part that runs last said that it does; nothing before it said anything."""
        with shared.lock:
            shared.progress.begin(case)

    def part(self, name: str) -> None:
        self.last = ""
        with self._to.lock:
            self._to.progress.part(self._before + name)

    def hear(self, line: str) -> None:
        """A line of the worker's output."""
        match = PROGRESS.match(line)
        if match:
            self.last = match[2]
            with self._to.lock:
                self._to.progress.say(min(1.0, float(match[1])), self._before + match[2])

    def end(self, record: Record) -> None:
        with self._to.lock:
            self._to.progress.end(record)
