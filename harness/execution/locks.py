"""One lock per device: nothing of ours runs there beside a timed case, whoever of the user's processes started it."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.execution.holder import holders, sign

RETRY_S = 0.5
SIGNING_S = 0.05
"""Who has just taken a device writes itself into its lock within this."""


class Busy(Exception):
    """Raised by a `rest` that has waited long enough."""


def lock_folder() -> Path:
    """A folder that only this user can write: under XDG_RUNTIME_DIR, or under the temporary folder."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime else Path(tempfile.gettempdir())
    folder = base / f"inference-pio-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot lock the device: {folder}: {error.strerror}") from None
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(f"{folder} can be written by others: a lock in it would protect nothing; remove it")
    return folder


@contextmanager
def hold(
    devices: Sequence[str],
    count: int,
    waiting: Callable[[str], None],
    rest: Callable[[float], None] = time.sleep,
    *,
    shared: bool = False,
) -> Iterator[tuple[str, ...]]:
    """Hold `count` of the devices: free ones if there are enough, else wait for the first ones, in a fixed order.
    `waiting` is told for what, and who holds it since when, and again when another does. `rest` passes the time between
    two tries, and ends the waiting by raising. Those who hold a device `shared` hold it together, and keep out who
    wants it alone."""
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with ExitStack() as stack:
        taken = _take_free(stack, devices, count, how)
        if len(taken) < count:
            stack.close()
            taken = sorted(devices)[:count]
            for device in taken:
                _wait(stack, device, how, waiting, rest)
        yield tuple(taken)


def _wait(
    stack: ExitStack, device: str, how: int, waiting: Callable[[str], None], rest: Callable[[float], None]
) -> None:
    file, told = _open(stack, device), ""
    while not _lock(file, how):
        if not holders(_path(device)):
            time.sleep(SIGNING_S)
        said = ", ".join([device, *(holder.sentence() for holder in holders(_path(device)))])
        if said != told:
            waiting(said)
        told = said
        rest(RETRY_S)
    sign(stack, file, _path(device), alone=how == fcntl.LOCK_EX)


def _take_free(stack: ExitStack, devices: Sequence[str], count: int, how: int) -> list[str]:
    taken: list[str] = []
    for device in devices:
        if len(taken) == count:
            break
        file = _open(stack, device)
        if _lock(file, how):
            sign(stack, file, _path(device), alone=how == fcntl.LOCK_EX)
            taken.append(device)
    return taken


def _lock(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(device: str) -> Path:
    return lock_folder() / f"{re.sub(r'[^0-9A-Za-z-]', '_', device)}.lock"


def _open(stack: ExitStack, device: str) -> int:
    file = os.open(_path(device), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, file)
    return file
