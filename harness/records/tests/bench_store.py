"""The store at scale: 100,000 records indexed and asked on one core, in a process of its own.

In the ordinary suite the same code runs on a fiftieth of them, without judging the time.
"""

import json
import os
import subprocess
import sys

import pytest

from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.record import Record, Series
from harness.records.run_file import RunWriter, run_path
from harness.tests import scale

CASES, RUNS = 500, 200
BUILD_LIMIT_S, LOAD_LIMIT_S, MEMORY_LIMIT_BYTES = 60.0, 1.0, 2**30
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.5, noise=1.0, limit=1.0),) * 4)
ASK = f"""{scale.ON_ONE_CORE}
import sys, time
from pathlib import Path
from harness.records.store import load
times = []
for _ in range(2):
    begin = time.perf_counter()
    rows = len(load(Path(sys.argv[1]), run="r-3", arm="candidate"))
    times.append(time.perf_counter() - begin)
# Of this program alone: getrusage counts what the process that started it held, too.
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print([*times, peak, rows])
"""


@pytest.fixture
def fill(tmp_path, make_case, environment, monkeypatch):
    """`fill(runs)`: that many runs of 500 cases each, eight blocks of three arms per record."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    cases = tuple(make_case(seed=seed) for seed in range(CASES))
    plan = Plan(cases=cases, skipped=())
    series = tuple(
        Series(
            arm=arm,
            phase="decode",
            process=0,
            samples_ms=tuple(2 + 0.001 * i for i in range(8)),
            blocks=tuple(range(8)),
        )
        for arm in ("candidate", "again", "reference")
    )
    common = {"run": "r", "plan": plan.hash, "status": "passed", "started_at": "2025-01-01T00:00:00+00:00"}
    proven = {"wall_s": 1.0, "environment": environment, "parity": RIGHT, "series": series}
    records = [Record(case=case, key=case.key, **common, **proven) for case in cases]

    def fill(runs):
        for number in range(runs):
            name = f"r-{number}"
            with RunWriter(run_path(tmp_path, "cpu", name), name, plan) as writer:
                for record in records:
                    writer.append(record.model_copy(update={"run": name}))
        return tmp_path

    return fill


def test_a_hundred_thousand_records(fill, benchmark):
    runs = RUNS if benchmark.enabled else RUNS // 50
    folder = fill(runs)

    def ask():
        child = [sys.executable, "-c", ASK, str(folder)]
        done = subprocess.run(child, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
        return json.loads(done.stdout)

    build_s, load_s, peak_bytes, rows = benchmark.pedantic(ask, rounds=1)
    assert rows == CASES
    assert peak_bytes < MEMORY_LIMIT_BYTES
    if benchmark.enabled:
        assert build_s < BUILD_LIMIT_S
        assert load_s < LOAD_LIMIT_S
    figures = {"index_s": build_s, "filtered_load_s": load_s, "peak_memory_bytes": peak_bytes}
    scale.keep("store", benchmark, records=runs * CASES, cores=1, **figures)
