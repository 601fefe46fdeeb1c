"""One child process in a group of its own: its lines as they come, its end, and nothing of it left behind.

The parent sleeps in one `select` on the child's output and its pidfd: it never polls beside a measurement.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TAIL_BYTES = 8000
BOUND = str(Path(__file__).with_name("parent_death.py"))


class Stopped(Exception):
    """A run was told to stop, from another thread."""


class Stop:
    """Told once, heard by every thread that waits: in a `select` as a file, or in `rest`."""

    def __init__(self) -> None:
        self._event = os.eventfd(0)

    def fire(self) -> None:
        os.eventfd_write(self._event, 1)

    def fired(self) -> bool:
        return self._heard(0.0)

    def rest(self, seconds: float) -> None:
        """Wait; raise Stopped as soon as it is told."""
        if self._heard(seconds):
            raise Stopped

    def fileno(self) -> int:
        return self._event

    def close(self) -> None:
        os.close(self._event)

    def _heard(self, seconds: float) -> bool:
        return bool(select.select([self._event], [], [], seconds)[0])


@dataclass(frozen=True)
class Ended:
    code: int | None
    """Exit code, negative for a signal; None when the time limit ended it."""
    tail: str
    """The end of what it wrote to stderr."""

    @property
    def how(self) -> str:
        """The exit code or the signal, in words."""
        code = self.code or 0
        return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"

    @property
    def last_line(self) -> str | None:
        """Of what it wrote to stderr; None where that is nothing."""
        lines = [line for line in self.tail.splitlines() if line.strip()]
        return lines[-1] if lines else None


def run(
    command: Sequence[str], environment: Mapping[str, str], limit_s: float, listen: Callable[[str], None], stop: Stop
) -> Ended:
    """Run to the end or to the limit; `listen` gets each line of its stdout. Whatever ends this call, the end of the
    process, the limit or an exception, such as Stopped, kills what is left of the process group."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", BOUND, str(os.getpid()), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert child.stdout is not None
        try:
            within = _follow(child, child.stdout, time.monotonic() + limit_s, listen, stop)
        finally:
            _kill_group(child)
            child.stdout.close()
            code = child.wait()
        return Ended(code if within else None, tail(errors))


def _follow(
    child: subprocess.Popen[bytes], output: IO[bytes], deadline: float, listen: Callable[[str], None], stop: Stop
) -> bool:
    """Pass on lines until the process ends; False when the deadline came first."""
    pidfd = os.pidfd_open(child.pid)
    os.set_blocking(output.fileno(), False)
    lines = _Lines(listen)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(pidfd, selectors.EVENT_READ)
            selector.register(stop, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(max(0.0, deadline - time.monotonic()))}
                if stop.fileno() in ready:
                    raise Stopped
                if output.fileno() in ready and not lines.drain(output):
                    selector.unregister(output)
                if pidfd in ready:
                    lines.drain(output)
                    return True
                if time.monotonic() >= deadline:
                    return False
    finally:
        os.close(pidfd)


class _Lines:
    """Bytes as they come, passed on as whole lines."""

    def __init__(self, listen: Callable[[str], None]) -> None:
        self._listen = listen
        self._rest = b""

    def drain(self, output: IO[bytes]) -> bool:
        """Take what is there; False at the end of the stream."""
        while True:
            try:
                data = os.read(output.fileno(), 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                self._listen(line.decode(errors="replace"))


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """Before the leader is reaped, so that the group's number cannot have been given to anyone else."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tail(errors: IO[bytes]) -> str:
    """The end of what a process wrote there."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - TAIL_BYTES))
    return errors.read().decode(errors="replace")
