"""Find the fastest launch shapes of the decode kernels on this GPU: python -m harness.tune.launch_shapes --out FILE

Every shape is compiled in parallel, checked against torch, then timed over rotating memory; one that fails is a row
with its error. Prints the best of each beside torch and the measured read ceiling, and writes every row as JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import triton
from triton.errors import TritonError

from harness.tune.sweep_clock import graph_us, read_ceiling_bytes_per_s
from harness.tune.sweep_jobs import Job, Shape, attention_job, product_job
from harness.tune.sweep_shapes import (
    ATTENTIONS,
    PRODUCTS,
    ROWS,
    Attention,
    Product,
    attention_shapes,
    early_starts,
    matrix_shapes,
    vector_shapes,
)
from models.common.linear.gemv import GemvShape

FAILURES = (TritonError, RuntimeError, ValueError)
Row = dict[str, Any]
Work = tuple[Product | Attention, int]


def works() -> Iterator[Work]:
    """(what, activation rows), the largest share of a decode step first, in case time runs out."""
    for m in ROWS:
        yield from ((work, m) for work in PRODUCTS)
        if m == 1:
            yield from ((work, work.batch) for work in ATTENTIONS)


def candidates(work: Product | Attention, m: int) -> list[Shape]:
    if isinstance(work, Attention):
        return list(attention_shapes(work))
    return list(vector_shapes(work) if m == 1 else matrix_shapes(work, m))


def make(work: Product | Attention, m: int, sets: int | None = None) -> Job:
    return attention_job(work, sets) if isinstance(work, Attention) else product_job(work, m, sets)


def compile_shapes(work: Product | Attention, m: int, shapes: Sequence[Shape]) -> None:
    """In a worker: one launch each fills Triton's cache on disk. What fails here fails again, and is told, when
    measured."""
    job = make(work, m, sets=1)
    for shape in shapes:
        try:
            job.run(shape, 0)
        except FAILURES:
            continue
    torch.cuda.synchronize()


def compile_on(pool: Executor, workers: int, wanted: Iterable[tuple[Product | Attention, int, list[Shape]]]) -> None:
    pending = [
        pool.submit(compile_shapes, work, m, shapes[first::workers])
        for work, m, shapes in wanted
        for first in range(min(workers, len(shapes)))
    ]
    for done in pending:
        done.result()


def measure(job: Job, shape: Shape) -> Row:
    row: Row = {"job": job.name, "shape": asdict(shape), "bytes": job.bytes}
    try:
        job.check(shape)
        us = graph_us(lambda i: job.run(shape, i), len(job.sets), job.bytes)
    except FAILURES as error:
        return row | {"error": f"{type(error).__name__}: {error}"[:500]}
    return row | {"us": us}


def sweep(work: Product | Attention, m: int, deadline: float, ready: Callable[[list[Shape]], None]) -> Iterator[Row]:
    """torch's row, every candidate's, and those of early starts of the two fastest, which `ready` compiles first."""
    job = make(work, m)
    plain_us = graph_us(lambda i: job.plain(**job.sets[i]), len(job.sets), job.bytes)
    yield {"job": job.name, "shape": "torch", "us": plain_us, "bytes": job.bytes}
    found = list(_measured(job, candidates(work, m), deadline))
    yield from (row for row, _ in found)
    early = list(_early(work, found))
    if early and time.monotonic() < deadline:
        ready(early)
    yield from (row for row, _ in _measured(job, early, deadline))


def _early(work: Product | Attention, found: Sequence[tuple[Row, Shape]]) -> Iterator[Shape]:
    fastest = sorted((pair for pair in found if "us" in pair[0]), key=lambda pair: pair[0]["us"])[:2]
    for _, shape in fastest:
        if isinstance(work, Product) and isinstance(shape, GemvShape):
            yield from early_starts(shape, work)


def _measured(job: Job, shapes: Iterable[Shape], deadline: float) -> Iterator[tuple[Row, Shape]]:
    for shape in shapes:
        if time.monotonic() > deadline:
            yield {"job": job.name, "shape": asdict(shape), "error": "not measured: the time limit had passed"}, shape
        else:
            yield measure(job, shape), shape


def report(name: str, rows: Sequence[Row], ceiling: float) -> str:
    """One line: the fastest shape, its time and fraction of the read ceiling, torch's time, and what failed."""
    timed = sorted((r for r in rows if "us" in r and r["shape"] != "torch"), key=lambda r: r["us"])
    torch_us = next(r["us"] for r in rows if r["shape"] == "torch")
    failed = [r["error"] for r in rows if "error" in r]
    tail = f"  {len(failed)} failed, first: {failed[0][:90]}" if failed else ""
    if not timed:
        return f"{name:24} nothing ran; torch {torch_us:8.2f} us{tail}"
    best = timed[0]
    said = f"{best['us']:8.2f} us  {best['bytes'] / best['us'] * 1e6 / ceiling:6.1%} of read  torch {torch_us:8.2f} us"
    shape = " ".join(f"{key}={value}" for key, value in best["shape"].items() if value not in (False, 0))
    plain = next((r for r in timed if not r["shape"].get("pdl")), best)
    return f"{name:24} {said}  without pdl {plain['us']:8.2f} us  {shape}{tail}"


def run(pool: Executor, workers: int, begun: float, deadline: float, out: Path) -> None:
    compile_on(pool, workers, ((work, m, candidates(work, m)) for work, m in works()))
    ceiling = read_ceiling_bytes_per_s()
    print(f"compiled in {time.monotonic() - begun:.0f} s; read ceiling {ceiling / 1e12:.2f} TB/s", flush=True)
    rows: list[Row] = []
    for work, m in works():
        torch.cuda.empty_cache()

        def ready(early: list[Shape], work: Product | Attention = work, m: int = m) -> None:
            compile_on(pool, workers, [(work, m, early)])

        found = list(sweep(work, m, deadline, ready))
        rows += found
        print(report(found[0]["job"], found, ceiling), flush=True)
    machine = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__}
    out.write_text(json.dumps(machine | {"read_bytes_per_s": ceiling, "rows": rows}, indent=1))
    print(f"{len(rows)} rows in {time.monotonic() - begun:.0f} s -> {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for every row")
    parser.add_argument("--workers", type=int, default=min(14, os.cpu_count() or 1), help="compiling processes")
    parser.add_argument("--limit-s", type=float, default=230, help="no new shape is measured after this many seconds")
    arguments = parser.parse_args()
    begun = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, spawn) as pool:
        run(pool, arguments.workers, begun, begun + arguments.limit_s, arguments.out)


if __name__ == "__main__":
    main()
