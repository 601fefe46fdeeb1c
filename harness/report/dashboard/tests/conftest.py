"""Forty nights of five cases as run files, and a sweep: a step down, an accepted one, a new driver, a break, a hostile
name."""

import math
import random
from datetime import UTC, date, datetime, timedelta

import pytest

from harness.analysis.history import accepted
from harness.analysis.history.accepted import Accepted
from harness.records.case import Case, Plan, TimingSettings, WorkloadShape
from harness.records.checks import Check, Parity
from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.records.record import ArmReport, Block, Ceilings, Environment, Provenance, Record, Series, Work
from harness.records.run_file import RunWriter, run_path
from harness.report import render
from harness.report.dashboard import site

NIGHTS = 40
START = datetime(2026, 1, 15, 2, tzinfo=UTC)
STEP_AT, ACCEPTED_AT, DRIVER_AT = 33, 15, 20
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
RIGHT = Parity(checks=(Check(level="op", subject="gemv", name="out", rule="max", error=0.5, noise=1.0, limit=1.0),))
BROKEN = Parity(checks=(Check(level="op", subject="gemv", name="out", rule="max", error=3.0, noise=1.0, limit=1.0),))
ARMS = ("candidate", "again", "reference", "hf_static")
FAULTS = KillMatrix(
    outcomes=(
        MutantOutcome(subject="gemv", name="halved", kind="scale", end="killed", level="op", rule="max"),
        MutantOutcome(subject="gemv", name="same sum", kind="order", end="equivalent", reason="addition commutes here"),
    )
)


def times(speedup):
    return {"candidate": 2.0, "again": 2.0, "reference": 2.0 * speedup, "hf_static": 1.6 * speedup}


def series(rng, speedup, processes=3, blocks=8):
    """A machine whose state differs between blocks, and arms that see it alike."""
    for process in range(processes):
        state = [math.exp(rng.gauss(0, 0.02)) for _ in range(blocks)]
        for arm, ms in times(speedup).items():
            taken = tuple(ms * each * math.exp(rng.gauss(0, 0.002)) for each in state)
            yield Series(arm=arm, phase="decode", process=process, samples_ms=taken, blocks=tuple(range(blocks)))


def timed(rng, speedup):
    return {
        "status": "passed",
        "parity": RIGHT,
        "series": tuple(series(rng, speedup)),
        "blocks": tuple(Block(process=p, index=i, phase="decode") for p in range(3) for i in range(8)),
        "arms": tuple(ArmReport(name=arm, label=arm, process=0) for arm in ARMS),
        "work": (Work(phase="decode", bytes=2 * 2**30, flops=2 * 10**9),),
        "ceilings": Ceilings(read_bytes_per_s=2e12, matmul_flops_per_s=3e14, matmul_dtype="float16"),
        "provenance": Provenance(hf_config="c", kernel_sources="s"),
    }


def night_of(cases, number, rng, environment):
    """The fields of each case's record, by name."""
    driver = {"driver": "2" if number >= DRIVER_AT else "1"}
    commit = f"{number:08x}" + "0" * 32
    here = environment.model_copy(update={"commit": commit})
    fields = {
        "stepped": timed(rng, 2.0 * (0.92 if number >= STEP_AT else 1)) | {"environment": here},
        "accepted": timed(rng, 3.0 * (0.95 if number >= ACCEPTED_AT else 1)) | {"environment": here},
        "driver": timed(rng, 1.5 if number < DRIVER_AT else 1.8) | {"environment": here.model_copy(update=driver)},
        "broken": timed(rng, 1.2) | {"environment": here},
        "hostile": {"status": "passed", "parity": RIGHT, "environment": here},
    }
    if number == NIGHTS - 1:
        fields["broken"] = {"status": "failed", "parity": BROKEN, "environment": here}
        fields["hostile"]["kill_matrix"] = FAULTS
    return {name: fields[name] for name in cases}


def write_run(folder, name, cases, at, fields):
    plan = Plan(cases=tuple(cases.values()), skipped=())
    with RunWriter(run_path(folder, "cpu", name), name, plan) as writer:
        for number, (which, case) in enumerate(cases.items()):
            started = (at + timedelta(minutes=number)).isoformat(timespec="seconds")
            fixed = {
                "run": name,
                "plan": plan.hash,
                "case": case,
                "key": case.key,
                "started_at": started,
                "wall_s": 9.0,
            }
            writer.append(Record(**fixed, **fields[which]))


@pytest.fixture(scope="session")
def cases():
    """By what becomes of them."""
    shape = WorkloadShape(name="standard", batch=1, prompt_tokens=1024, new_tokens=128, dtype="float16")
    limits = {"processes": 3, "min_blocks": 8, "max_blocks": 8, "half_width": 0.01, "margin": 0.01, "limit_s": 5.0}
    timing = TimingSettings(name="standard", **limits)

    def made(model, *stack):
        fields = {"size": "tiny", "hardware": "cpu", "workload": shape, "arms": ARMS[2:], "timing": timing, "seed": 0}
        return Case(model=model, optimizations=stack, deadline_s=60.0, **fields)

    return {
        "stepped": made("alpha", "rotary", "attention"),
        "accepted": made("alpha", "rotary"),
        "driver": made("beta", "rotary"),
        "broken": made("beta", "attention"),
        "hostile": made(HOSTILE, HOSTILE),
    }


@pytest.fixture(scope="session")
def machine():
    return Environment(
        commit="0" * 40, dirty=False, diff_hash=None, command=("python", "-m", "harness"), python="3.11",
        platform="Linux", packages={}, cpu="a CPU", cpu_cores=2, memory_bytes=2**34,
    )  # fmt: skip


@pytest.fixture(scope="session")
def results(tmp_path_factory, cases, machine):
    folder = tmp_path_factory.mktemp("results")
    rng = random.Random(11)
    for number in range(NIGHTS):
        fields = night_of(cases, number, rng, machine)
        write_run(folder, f"night-{number:02d}", cases, START + timedelta(days=number), fields)
    case = cases["accepted"]
    step = Accepted(
        key=case.key,
        phase="decode",
        fingerprint=machine.fingerprint(),
        since=(START + timedelta(days=ACCEPTED_AT, minutes=1)).isoformat(timespec="seconds"),
        commit=f"{ACCEPTED_AT:08x}",
        owner="kernels",
        reason="fp32 accumulation is right",
        made=date(2026, 2, 1),
        expires=date(2027, 1, 1),
    )
    accepted.write(step, folder)
    stacks = {"+".join(stack): stack for stack in ((), ("rotary",), ("rotary", "attention"))}
    sweep = {
        name: cases["stepped"].model_copy(update={"optimizations": stack, "model": "gamma"})
        for name, stack in stacks.items()
    }
    gains = {name: timed(rng, 1.0 + 0.5 * len(stack)) | {"environment": machine} for name, stack in stacks.items()}
    write_run(folder, "sweep", sweep, START + timedelta(days=1, hours=5), gains)
    return folder


@pytest.fixture(scope="session")
def today():
    return date(2026, 3, 1)


@pytest.fixture(scope="session")
def pages(results, tmp_path_factory, today):
    """The root of the site of `results`, with the reports of two of its runs."""
    out = tmp_path_factory.mktemp("site")
    gathered = site.gather(results, today)
    for path, text in site.pages(gathered, today):
        render.save(out, path, text)
    for file in gathered.files:
        if file.stem in ("night-39", "sweep"):
            site.run_pages(file, out)
    return out
