"""Each single piece of evidence that is missing refuses, by its own requirement and by no other: `refusals.md`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.records.case import Case
from harness.records.checks import NotJudged
from harness.records.record import Environment, Failure, Record, StandingProof
from harness.records.standing_verdict import StandingVerdict
from harness.signoff.tests.made import (
    ARMS,
    FAST,
    PATHS,
    PROVENANCE,
    asked,
    document,
    faults,
    history,
    matrix,
    parity,
    record,
    series,
    stored,
)

TABLE = Path(__file__).with_name("refusals.md")
Records = Callable[[Case, Environment], Sequence[Record]]


@dataclass(frozen=True)
class Gap:
    """Evidence with one gap, and what is to be said of it."""

    what: str
    refused_by: tuple[str, ...]
    says: str
    records: Records


def newest(**changes) -> Records:
    """All that a sign-off asks, the newest run changed."""
    return lambda c, e: [record(c, e, **changes), faults(c, e), *history(c, e)]


def lacking(**changes) -> Records:
    """The same where the history is long enough without the newest run."""
    return lambda c, e: [record(c, e, **changes), faults(c, e), *history(c, e, 11)]


def timed(**changes) -> Records:
    """The newest run of a case that was asked to be timed in another way."""

    def made(c, e):
        other = c.model_copy(update={"timing": c.timing.model_copy(update=changes)})
        return [record(other, e), faults(c, e), *history(other, e)]

    return made


def everywhere(**changes) -> Records:
    """The newest run changed, and all before it."""
    return lambda c, e: [record(c, e, **changes), faults(c, e), *history(c, e, **changes)]


def at(**changes) -> Records:
    """The newest run at another state of the sources."""
    return lambda c, e: [record(c, e.model_copy(update=changes)), faults(c, e), *history(c, e)]


def before(count, arms=ARMS) -> Records:
    return lambda c, e: [record(c, e), faults(c, e), *history(c, e, count, arms)]


def planted(**changes) -> Records:
    return lambda c, e: [record(c, e), faults(c, e, **changes), *history(c, e)]


def paces(phase, **arms):
    """Series in which only one phase reads otherwise."""
    (other,) = {"prefill", "decode"} - {phase}
    return (*series(ARMS, phases=(other,)), *series(ARMS | arms, phases=(phase,)))


def indivisible(phase):
    """Series of which one arm reads now this, now that, in one phase."""
    noise = random.Random(0)

    def read(item):
        times = tuple(ms * noise.lognormvariate(0, 0.2) for ms in item.samples_ms)
        here = item.phase == phase and item.arm == "hf_max_autotune"
        return item.model_copy(update={"samples_ms": times}) if here else item

    return tuple(map(read, paces(phase, hf_max_autotune=1.02)))


def unsettled(phase):
    """Blocks of which those of two processes alone came after a warm-up that settled, in one phase."""

    def made(c, e):
        whole = record(c, e)
        blocks = tuple(
            block.model_copy(update={"settled": block.phase != phase or block.process < 2}) for block in whole.blocks
        )
        return [whole.model_copy(update={"blocks": blocks}), faults(c, e), *history(c, e)]

    return made


TWO_PACKAGES = {"torch": "2.11.0", "transformers": "5.17.0"}
UNPADDED = tuple(path for path in PATHS if path != "left-padded batch")
UNRIVALED = {name: ms for name, ms in ARMS.items() if name != "hf_max_autotune"}
UNJUDGED = (NotJudged(level="logits", subject="loss", reason="no checkpoint"),)
STANDING = (StandingVerdict(kernel="gemv", dtype="bfloat16", run="run-0", key="0" * 32),)
OTHER_SOURCES = PROVENANCE.model_copy(update={"kernel_sources": "other"})
OLD_CACHES = PROVENANCE.model_copy(update={"fresh_caches": False})
NO_LOCK = PROVENANCE.model_copy(update={"lock": ""})
ELSEWHERE = StandingProof(run="run-0", content="0" * 64)
LEFT = Failure(kind="RuntimeError", message="the last kernel went wrong")
NOT_TIMED = ("outcome", "parity", "processes", "peers", "prefill", "decode", "history")
GAPS = (
    Gap("any run of the case", ("record",), "no run of this case", lambda c, e: []),
    Gap(
        "a whole run: one that was timed and then crashed",
        ("outcome",),
        "crashed: the last kernel",
        newest(status="crashed", error=LEFT),
    ),
    Gap(
        "a right model",
        NOT_TIMED,
        "failed: gemv (out)",
        newest(status="failed", parity=parity(error=3.0), series=(), blocks=()),
    ),
    Gap(
        "a level of parity",
        ("parity",),
        "nothing was judged on logits",
        newest(parity=parity(("reference", "op", "layer", "generation"))),
    ),
    Gap("all paths", ("parity",), "nothing was judged on path", newest(parity=parity(paths=()))),
    Gap("one path", ("parity",), "no path was left-padded batch", newest(parity=parity(paths=UNPADDED))),
    Gap("a check that could not run", ("parity",), "not judged: loss", newest(parity=parity(not_judged=UNJUDGED))),
    Gap(
        "kernels judged in this run",
        ("parity",),
        "gemv judged by another run",
        newest(parity=parity(standing=STANDING)),
    ),
    Gap("the run that proved it", ("parity",), "run run-0, which proved it, is not on record", newest(proof=ELSEWHERE)),
    Gap("a kill matrix", ("faults",), "no kill matrix of these sources", lambda c, e: [record(c, e), *history(c, e)]),
    Gap(
        "a kill matrix of these sources",
        ("faults",),
        "no kill matrix of these sources",
        planted(provenance=OTHER_SOURCES),
    ),
    Gap(
        "a kill matrix on this hardware",
        ("faults",),
        "no kill matrix of these sources on cpu",
        planted(hardware="h200"),
    ),
    Gap(
        "a gate that saw every fault",
        ("faults",),
        "0 of 2 planted faults seen",
        planted(kill_matrix=matrix(end="survived")),
    ),
    Gap("faults in one kernel", ("faults",), "none was planted in gemv", planted(kill_matrix=matrix(("model",)))),
    Gap("faults in the model", ("faults",), "none was planted in model", planted(kill_matrix=matrix(("gemv",)))),
    Gap("a clean tree", ("source",), "in no commit", at(dirty=True)),
    Gap("a commit", ("source",), "does not say what", at(commit="unknown")),
    Gap(
        "a commit that a clone would bring",
        ("source",),
        "which no branch or tag of this repository has",
        at(commit="0" * 40),
    ),
    Gap("a version", ("versions",), "no version of triton", everywhere(packages=TWO_PACKAGES)),
    Gap(
        "the hash of constraints.txt",
        ("versions",),
        "which constraints.txt is not on record",
        newest(provenance=NO_LOCK),
    ),
    Gap("empty caches of the proof", ("caches",), "from a cache", newest(provenance=OLD_CACHES)),
    Gap("empty caches of the timing", ("caches",), "from a cache", timed(name="standard")),
    Gap("a process", ("processes",), "timed in 4 of at least 5", newest(series=series(ARMS, 4))),
    Gap("blocks", ("protocol",), "10 blocks, 30 asked", timed(min_blocks=10)),
    Gap("a narrow interval to stop at", ("protocol",), "±2.00%, ±1.00% asked", timed(half_width=0.02)),
    Gap("the margin", ("protocol",), "a margin of 1.00%, 2.00% asked", timed(margin=0.01)),
    Gap("time", ("protocol",), "a limit of 8 s, 15 s asked", timed(limit_s=8.0)),
    Gap("the strongest peer", ("peers",), "not timed against hf_max_autotune", newest(series=series(UNRIVALED))),
    Gap("a timed prefill", ("prefill",), "not timed", lacking(series=series(ARMS, phases=("decode",)))),
    Gap(
        "a prefill that is not slower",
        ("prefill",),
        "slower: 0.667x",
        newest(series=paces("prefill", hf_max_autotune=2 / 3)),
    ),
    Gap("a timed decode", ("decode",), "not timed", lacking(series=series(ARMS, phases=("prefill",)))),
    Gap(
        "a decode that is not slower",
        ("decode",),
        "slower: 0.667x",
        newest(series=paces("decode", hf_max_autotune=2 / 3)),
    ),
    Gap("a decode that is faster", ("decode",), "same: 1.000x", newest(series=paces("decode", hf_max_autotune=1.0))),
    Gap("a decode that is decided", ("decode",), "inconclusive", newest(series=indivisible("decode"))),
    Gap(
        "a decode whose warm-up settled in three processes",
        ("decode",),
        "2 of the 3 sound processes that a verdict needs",
        unsettled("decode"),
    ),
    Gap(
        "as many blocks as were asked for",
        ("prefill", "decode"),
        "0 of the 3 sound processes that a verdict needs",
        timed(min_blocks=31),
    ),
    Gap("a decode that agrees with itself", ("decode",), "invalid", newest(series=paces("decode", again=1.2))),
    Gap(
        "memory that is no more than the reference's",
        ("memory",),
        "1.50 of the",
        newest(peaks=dict.fromkeys(ARMS, 100) | {"candidate": 150}),
    ),
    Gap("a peak of memory", ("memory",), "no peak memory on record", newest(peaks={})),
    Gap("a history", ("history",), "insufficient history: 9 of 10", before(9)),
    Gap("a history without a slower last run", ("history",), "measure it again", before(14, FAST)),
)


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap.what)
def test_each_gap_is_refused_by_its_own_requirement_alone(tmp_path, case, environment, gap):
    stored(tmp_path / "records", gap.records(case, environment))
    code, told = asked(tmp_path)
    assert code == 1
    said = json.loads((document(tmp_path) / "signoff.json").read_text())
    refused = {item["requirement"]: item for item in said["findings"] if not item["met"]}
    assert tuple(refused) == gap.refused_by
    first = refused[gap.refused_by[0]]
    assert gap.says in first["found"]
    assert first["supply"] in told, "the command that would supply it"
    assert first["supply"].startswith("python -m harness")


def test_the_committed_table_is_that_of_the_gaps(tmp_path):
    made = tmp_path / TABLE.name
    made.write_text(table())
    assert TABLE.read_text() == made.read_text(), f"cp {made} {TABLE}"


def table() -> str:
    lines = ["# What a sign-off refuses", ""]
    lines += ["All other evidence is there each time. `test_refusals.py` tries each gap, and makes this page.", ""]
    lines += ["| What is missing | Refused by | It says |", "| --- | --- | --- |"]
    lines += [f"| {gap.what} | {', '.join(gap.refused_by)} | {gap.says} |" for gap in GAPS]
    return "\n".join(lines) + "\n"
