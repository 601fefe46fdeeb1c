"""Where this installation keeps what is not Python: a checkout beside the packages, a wheel inside of them."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages `harness` and `models`: goes on the PYTHONPATH of child processes."""
CHECKOUT = None if (ROOT / "harness" / "conf").is_dir() else ROOT
"""The checkout that this code is run from; None for an installed wheel, which no git repository describes, though its
environment may lie inside of one."""
CONF = ROOT / "conf" if CHECKOUT else ROOT / "harness" / "conf"
"""The configuration, package data in a wheel."""
WORK = CHECKOUT or Path()
"""Where a project keeps `test_shards/`: the checkout, or the working folder."""


def verdict_folder() -> Path:
    """Where this user's op-level verdicts lie, for all checkouts and results folders."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inference-pio" / "op-verdicts"
