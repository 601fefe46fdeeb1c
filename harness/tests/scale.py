"""Figures at scale, kept under `benchmark_results/scale/` with everything that could explain them.

The load average is among it, for who else used the cores: the benchmark itself adds one to it, or a browser's few.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.machine.environment import capture

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmark_results" / "scale"
ON_ONE_CORE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
"""Begins a program that is to be measured on one core, whatever its libraries would take."""


def keep(what: str, benchmark: Any, **figures: object) -> None:
    """In the benchmark's own `extra_info`, and, where it was asked for with --benchmark-enable, as
    `DATE-COMMIT-WHAT.json`. To be called when the figures have been judged."""
    benchmark.extra_info.update(figures)
    if not benchmark.enabled:
        return
    environment = capture(ROOT, ["python", "-m", "pytest", *sys.argv[1:]])
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{datetime.now(UTC):%Y%m%d}-{environment.commit[:8]}-{what}.json"
    load = dict(zip(("1_min", "5_min", "15_min"), os.getloadavg(), strict=True))
    said = {"figures": figures, "load_average": load, "environment": environment.model_dump(mode="json")}
    path.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
