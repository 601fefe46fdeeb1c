"""`python -m harness.records.pytest_benchmark RUN.jsonl FILE.json`: samples in the format of pytest-benchmark, and
back.

Every phase and arm becomes a benchmark in seconds, so that `pytest-benchmark compare` reads it. What is read back is a
table and not records: a pytest-benchmark file holds no proof that what was timed is right.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from harness.errors import HarnessError, RecordError, UserError
from harness.records.record import Phase, Record, Series
from harness.records.run_file import read_run

if TYPE_CHECKING:
    import pandas as pd

VERSION = "5.0.0"
"""Of the file format: that of pytest-benchmark 5."""


def document(records: Sequence[Record]) -> dict[str, Any]:
    """The timed records as one pytest-benchmark file; UserError when nothing was timed.

    Blocks that were dropped are left out. The environment is that of the first timed record.
    """
    timed = [record for record in records if record.series]
    environment = next((record.environment for record in timed if record.environment), None)
    if environment is None:
        raise UserError("nothing was timed: a file without a benchmark would say nothing")
    return {
        "machine_info": {
            "node": timed[0].case.hardware,
            "processor": environment.cpu,
            "machine": environment.platform,
            "python_version": environment.python,
            "cpu": {"brand_raw": environment.cpu, "count": environment.cpu_cores},
            "gpu": environment.gpu,
            "driver": environment.driver,
            "packages": environment.packages,
            "fingerprint": environment.fingerprint(),
        },
        "commit_info": {"id": environment.commit, "dirty": environment.dirty, "time": None, "branch": None},
        "benchmarks": [benchmark for record in timed for benchmark in _benchmarks(record)],
        "datetime": timed[0].started_at,
        "version": VERSION,
    }


def read(path: Path) -> pd.DataFrame:
    """One row per benchmark of a pytest-benchmark file: `name`, `group`, `commit`, `dirty`, `fingerprint` (None for
    files of other tools), `started_at`, `rounds`, `median_ms`, `samples_ms` (empty when the file was saved without).

    Raises RecordError naming the field that is missing or not a positive finite time.
    """
    import pandas as pd

    try:
        held = json.loads(path.read_text(), parse_constant=_not_finite)
        return pd.DataFrame([_row(item, held) for item in held["benchmarks"]])
    except KeyError as error:
        raise RecordError(f"{path.name}: no field {error}: not a pytest-benchmark file") from None
    except (OSError, ValueError, TypeError) as error:
        raise RecordError(f"{path.name} cannot be read: {error}") from None


def _benchmarks(record: Record) -> Iterator[dict[str, Any]]:
    dropped = {(block.phase, block.process, block.index) for block in record.blocks if block.dropped}
    groups: dict[tuple[str, str], list[float]] = {}
    for series in record.series:
        groups.setdefault((series.phase, series.arm), []).extend(_kept_s(series, dropped))
    label = record.case.label()
    for (phase, arm), seconds in groups.items():
        if not seconds:
            continue
        yield {
            "group": f"{label} {phase}",
            "name": f"{label} {phase} {arm}",
            "fullname": f"{record.key}::{phase}::{arm}",
            "params": None,
            "param": None,
            "extra_info": {"run": record.run, "key": record.key, "phase": phase, "arm": arm},
            "options": {"timer": "device events", "warmup": True},
            "stats": _stats(seconds),
        }


def _kept_s(series: Series, dropped: set[tuple[Phase, int, int]]) -> list[float]:
    pairs = zip(series.blocks, series.samples_ms, strict=True)
    return [ms / 1e3 for block, ms in pairs if (series.phase, series.process, block) not in dropped]


def _stats(seconds: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    first, middle, third = statistics.quantiles(ordered, method="inclusive") if len(ordered) > 1 else 3 * ordered
    mean, spread = statistics.fmean(ordered), third - first
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
    low, high = first - 1.5 * spread, third + 1.5 * spread
    far = sum(not low <= value <= high for value in ordered)
    upcast = sum(abs(value - mean) > deviation for value in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(ordered),
        "median": middle,
        "q1": first,
        "q3": third,
        "iqr": spread,
        "iqr_outliers": far,
        "stddev_outliers": upcast,
        "outliers": f"{upcast};{far}",
        "ld15iqr": next(value for value in ordered if value >= low),
        "hd15iqr": next(value for value in reversed(ordered) if value <= high),
        "ops": 1 / mean,
        "total": sum(ordered),
        "data": list(seconds),
        "iterations": 1,
    }


def _row(item: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    stats, commit = item["stats"], held["commit_info"]
    if not stats["median"] > 0:
        raise ValueError(f"{item['name']}: a median of {stats['median']} s")
    return {
        "name": item["name"],
        "group": item["group"],
        "commit": commit["id"],
        "dirty": commit["dirty"],
        "fingerprint": held["machine_info"].get("fingerprint"),
        "started_at": held["datetime"],
        "rounds": stats["rounds"],
        "median_ms": stats["median"] * 1e3,
        "samples_ms": tuple(second * 1e3 for second in stats.get("data", ())),
    }


def _not_finite(constant: str) -> float:
    raise ValueError(f"{constant} is not a finite number")


def main(arguments: Sequence[str] | None = None, err: TextIO = sys.stderr) -> int:
    """0: written. 2: a run file that cannot be read, holds no timing, or a file that exists."""
    parser = argparse.ArgumentParser(prog="python -m harness.records.pytest_benchmark", description=__doc__)
    parser.add_argument("run", type=Path, help="run file")
    parser.add_argument("file", type=Path, help="pytest-benchmark file to write; an existing one is not replaced")
    chosen = parser.parse_args(arguments)
    try:
        content = json.dumps(document(read_run(chosen.run)[1]), indent=1, allow_nan=False)
        with chosen.file.open("x") as file:
            file.write(content + "\n")
    except (HarnessError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=err)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
