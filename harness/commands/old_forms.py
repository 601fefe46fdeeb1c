"""Commands that were modules once: `python -m harness.compare` is `python -m harness compare` now."""

from __future__ import annotations

import sys
from collections.abc import Sequence

NOW = {
    "calibrate": "calibrate",
    "compare": "compare",
    "cross_check": "timers",
    "history": "history",
    "merge": "merge",
    "mutants": "faults",
    "replay": "replay",
    "report": "report",
    "shards": "shards",
    "signoff": "signoff",
}


def refuse(command_line: Sequence[str]) -> None:
    """End the process with one line and exit code 2 where `command_line` asks for a module that was a command."""
    if "-m" not in command_line:
        return
    place = command_line.index("-m") + 1
    package, _, old = command_line[place].partition(".") if place < len(command_line) else ("", "", "")
    if package == "harness" and old in NOW:
        now = f"python -m harness {NOW[old]}"
        print(f"error: 'python -m harness.{old}' is written '{now}' now: {now} --help", file=sys.stderr)
        raise SystemExit(2)
