"""Say who holds a device: a line in its lock file for each holder, believed only while that process lives."""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from harness.records.redaction import hide

LONGEST = 160
"""Characters of a command."""


@dataclass(frozen=True)
class Holder:
    pid: int
    born: str
    """Of its process, as the kernel counts: another process may get the number of a dead one. Empty where the kernel
    does not tell."""
    command: str
    since: str
    """When it took the device, ISO 8601 with its offset."""

    def sentence(self) -> str:
        who = "another case of this run" if self.pid == os.getpid() else f"pid {self.pid} ({self.command})"
        since, now = datetime.fromisoformat(self.since).astimezone(), datetime.now().astimezone()
        return f"held by {who} since {since:{'%H:%M' if since.date() == now.date() else '%Y-%m-%d %H:%M'}}"


def sign(stack: ExitStack, file: int, path: Path, alone: bool) -> None:
    """Write this process into the lock file that `file` has locked, and blank its line again before `stack` closes it.

    Who holds the device `alone` removes what those before it left.
    """
    line = json.dumps(asdict(_myself())).encode() + b"\n"
    if alone:
        os.ftruncate(file, 0)
    with path.open("ab", buffering=0) as end:
        end.write(line)
        start = end.tell() - len(line)
    stack.callback(os.pwrite, file, b" " * (len(line) - 1), start)


def holders(path: Path) -> tuple[Holder, ...]:
    """Who wrote itself into the lock file and lives; a line that is half written is nobody's yet."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(Holder(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return tuple(holder for holder in found if _lives(holder))


def _myself() -> Holder:
    program, *rest = sys.orig_argv or sys.argv or ["?"]
    command = hide(shlex.join([Path(program).name, *rest]), os.environ)
    short = command if len(command) <= LONGEST else f"{command[:LONGEST]}..."
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return Holder(os.getpid(), _born(os.getpid()), " ".join(short.split()), now)


def _lives(holder: Holder) -> bool:
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _born(holder.pid) == holder.born


def _born(pid: int) -> str:
    """The start of a process in clock ticks since the machine's, from /proc/PID/stat; empty where there is none."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return told.rpartition(")")[2].split()[19]
