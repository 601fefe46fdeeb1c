"""The pages about many at scale: from 100,000 records of 500 cases on disk, in a process of its own on one core; then
opened in Chromium, which takes the cores that there are.

In the ordinary suite the same code runs on a two-hundredth, without judging the time. Reports of single runs are
left out: each is written once, when its run is new.
"""

import json
import os
import subprocess
import sys

import pytest

from harness.records.case import Plan
from harness.records.checks import Check, Parity
from harness.records.record import Block, Record, Series
from harness.records.run_file import RunWriter, run_path
from harness.tests import scale

CASES, RUNS = 500, 200
BUILD_LIMIT_S, MEMORY_LIMIT_BYTES, FIRST_PAGE_BYTES = 900.0, 2 * 2**30, 2 * 10**6
INTERACTIVE_MS = 1000
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.5, noise=1.0, limit=1.0),) * 4)
ASK = f"""{scale.ON_ONE_CORE}
import sys, time
from datetime import date
from pathlib import Path
from harness.report import render
from harness.report.dashboard import site
begin = time.perf_counter()
gathered = site.gather(Path(sys.argv[1]), date(2026, 1, 1))
read_s = time.perf_counter() - begin
sizes = [
    render.save(Path(sys.argv[2]), path, text).stat().st_size for path, text in site.pages(gathered, date(2026, 1, 1))
]
build_s = time.perf_counter() - begin
# Of this program alone: getrusage counts what the process that started it held, too.
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print([read_s, build_s, peak, len(sizes), sizes[0], max(sizes)])
"""


@pytest.fixture
def fill(tmp_path, make_case, environment, monkeypatch):
    """`fill(runs, cases)`: eight blocks of three arms per record."""
    monkeypatch.setattr(os, "fsync", lambda file: None)

    def fill(runs, cases):
        every = tuple(make_case(model=f"m{number % 4}", optimizations=(f"o{number // 4}",)) for number in range(cases))
        plan = Plan(cases=every, skipped=())
        blocks = tuple(Block(process=0, index=index, phase="decode") for index in range(8))
        for number in range(runs):
            times = {arm: tuple(2 + 0.001 * (i + number % 7) for i in range(8)) for arm in ("candidate", "again")}
            times["reference"] = tuple(3 + 0.001 * i for i in range(8))
            series = tuple(
                Series(arm=arm, phase="decode", process=0, samples_ms=taken, blocks=tuple(range(8)))
                for arm, taken in times.items()
            )
            name = f"r-{number:03d}"
            common = {"run": name, "plan": plan.hash, "status": "passed", "wall_s": 1.0, "environment": environment}
            common |= {"parity": RIGHT, "series": series, "blocks": blocks}
            with RunWriter(run_path(tmp_path, "cpu", name), name, plan) as writer:
                for case in every:
                    at = f"2025-01-{1 + number // 24:02d}T{number % 24:02d}:00:00+00:00"
                    writer.append(Record(case=case, key=case.key, started_at=at, **common))
        return tmp_path

    return fill


def ready_ms(page):
    """Milliseconds from the beginning of the navigation until the page answers."""
    return int(page.evaluate("document.documentElement.dataset.ready"))


def test_the_pages_of_a_hundred_thousand_records(fill, benchmark, visit, tmp_path_factory):
    runs, cases = (RUNS, CASES) if benchmark.enabled else (RUNS // 10, CASES // 20)
    folder, site = fill(runs, cases), tmp_path_factory.mktemp("site")

    def ask():
        child = [sys.executable, "-c", ASK, str(folder), str(site)]
        done = subprocess.run(child, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
        return json.loads(done.stdout)

    read_s, build_s, peak_bytes, pages, first_bytes, largest_bytes = benchmark.pedantic(ask, rounds=1)
    opened = {path.stem: visit(path) for path in sorted(site.glob("*.html"))}
    ready = {name: ready_ms(page) for name, page in opened.items()}
    assert pages == cases + 7
    assert first_bytes < FIRST_PAGE_BYTES
    assert peak_bytes < MEMORY_LIMIT_BYTES
    if benchmark.enabled:
        assert build_s < BUILD_LIMIT_S
        assert ready["index"] < INTERACTIVE_MS
    scale.keep(
        "site", benchmark, records=runs * cases, cores=1, read_s=read_s, build_s=build_s, peak_memory_bytes=peak_bytes,
        pages=pages, first_page_bytes=first_bytes, largest_page_bytes=largest_bytes, interactive_ms=ready,
        chromium=opened["index"].context.browser.version,
    )  # fmt: skip
