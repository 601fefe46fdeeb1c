"""A CPU's cores, shared out between processes beside each other: threads that outnumber them wait at every barrier."""

from __future__ import annotations

import os

THREADS = "OMP_NUM_THREADS"


def share(processes: int) -> dict[str, str]:
    """The environment of one of so many processes. A number of threads that somebody asked for stands."""
    cores = len(os.sched_getaffinity(0))
    return {THREADS: os.environ.get(THREADS) or str(max(1, cores // processes))}
