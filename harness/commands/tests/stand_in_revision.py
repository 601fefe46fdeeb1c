"""`python -m harness OVERRIDES` of a repository made by a test: writes a run whose candidate takes what `decode_ms` and
`prefill_ms` beside it say, on a machine whose state differs from one process to the next by some percent."""

import os
import sys
import time
from pathlib import Path

import numpy as np

from harness.records.case import Case, Plan, TimingSettings, WorkloadShape
from harness.records.checks import Check, Parity
from harness.records.record import Block, Environment, Record, Series
from harness.records.run_file import RunWriter, run_path

BLOCKS = 12
CASE = Case(
    model="toy",
    size="tiny",
    optimizations=("rotary",),
    hardware="cpu",
    workload=WorkloadShape(name="smoke", batch=1, prompt_tokens=8, new_tokens=4, dtype="float16"),
    arms=("reference",),
    timing=TimingSettings(
        name="quick", processes=1, min_blocks=3, max_blocks=20, half_width=0.01, margin=0.01, limit_s=5.0
    ),
    seed=0,
    deadline_s=20.0,
)
PLAN = Plan(cases=(CASE,), skipped=())
HERE = Environment(
    commit="unknown",
    dirty=False,
    diff_hash=None,
    command=(),
    python="3.11",
    platform="Linux",
    packages={},
    cpu="a CPU",
    cpu_cores=2,
    memory_bytes=2**34,
)
RIGHT = Parity(checks=(Check(level="op", subject="k", name="o", rule="max", error=0.0, noise=1.0, limit=1.0),))


def main(words):
    if "+model=toy" not in words:
        print("error: no such model", file=sys.stderr)
        return 2
    number = Path("number")
    if "+waits=all" in words or (number.exists() and f"+waits={number.read_text()}" in words):
        Path(os.environ["STAND_IN_PID"]).write_text(str(os.getpid()))
        time.sleep(120)
    if path := os.environ.get("STAND_IN_WORDS"):
        with open(path, "a") as told:
            print(*words, file=told)
    out = Path(next(word.removeprefix("out=") for word in words if word.startswith("out=")))
    rng = np.random.default_rng(sum(out.name.encode()))
    machine, throttled = rng.normal(1, 0.05), "throttled" in words and out.name in ("head-0", "head-1", "base-2")
    with RunWriter(run_path(out, "cpu", "r"), "r", PLAN) as writer:
        writer.append(record(times_ms(Path(__file__).parent), rng, machine, throttled))
    return 0


def times_ms(folder):
    """Phase -> milliseconds of the candidate, as the files of a commit's package say."""
    return {at.stem.removesuffix("_ms"): float(at.read_text()) for at in sorted(folder.glob("*_ms"))}


def record(phases, rng, machine=1.0, throttled=False):
    """What one process says of these times on a machine that takes `machine` times as long."""
    blocks = tuple(
        Block(process=0, index=i, phase=phase, foreign_processes=int(throttled))
        for phase in phases
        for i in range(BLOCKS)
    )

    def series(arm, phase):
        samples = (4.0 if arm == "reference" else phases[phase]) * machine * np.exp(rng.normal(0, 0.003, BLOCKS))
        return Series(arm=arm, phase=phase, process=0, samples_ms=tuple(samples), blocks=tuple(range(BLOCKS)))

    return Record(
        run="r",
        plan=PLAN.hash,
        case=CASE,
        key=CASE.key,
        status="passed",
        started_at="2025-01-01T00:00:00+00:00",
        wall_s=1.0,
        environment=HERE,
        parity=RIGHT,
        series=tuple(series(arm, phase) for phase in phases for arm in ("candidate", "again", "reference")),
        blocks=blocks,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
