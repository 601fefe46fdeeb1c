"""One fault of the corpus, planted in a copy of the sources and judged there by the ordinary command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import RecordError, UserError
from harness.machine.installation import ROOT
from harness.records.blind_corpus import Planted
from harness.records.blind_fault import BlindResult
from harness.records.record import Record
from harness.records.run_file import read_file

SOURCES = ("harness", "models", "conf", "pyproject.toml", "constraints.txt")
PROOF_ONLY = ("timing=off", "report=[]", "resume=off")
LIMIT_S = 3600.0


def judge(planted: Planted, commit: str, hardware: str, options: Sequence[str] = ()) -> BlindResult:
    """Plant it in a copy of these sources and run the command that should refuse it, in a process of its own, with
    nothing timed. A fault that needs hardware of its own gets that; its own options come after `options`."""
    begun, hardware = time.monotonic(), planted.fault.hardware or hardware
    with tempfile.TemporaryDirectory(prefix="blind-") as scratch:
        tree, out = Path(scratch) / "tree", Path(scratch) / "out"
        copy_sources(tree)
        if (refusal := applied(planted.patch, tree)) is not None:
            return BlindResult(fault=planted.name, commit=commit, hardware=hardware, end="stale", why=refusal)
        asked = [f"+model={planted.fault.model}", f"hardware={hardware}", *options, *planted.fault.options]
        told = _run(tree, [*asked, *PROOF_ONLY, f"out={out}"])
        return ended(planted.name, commit, hardware, out, told, time.monotonic() - begun)


def copy_sources(tree: Path) -> None:
    """What the command needs of these sources, without the corpus itself."""
    tree.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "round-*"))
        elif source.exists():
            shutil.copy(source, tree / name)


def applied(patch: Path, tree: Path) -> str | None:
    """Why the patch does not apply to the tree; None where it was applied, every line of its context found."""
    # Inside a repository git would take the paths to start at its root.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.resolve().parent)}
    command = ["git", "apply", "--whitespace=nowarn", str(patch.resolve())]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else " ".join(done.stderr.split()) or "git apply failed"


def ended(fault: str, commit: str, hardware: str, out: Path, told: str, wall_s: float) -> BlindResult:
    """What the records under `out` say of a fault. A run that left none, or none with a judgment, crashed; `told` is
    the last that it said."""
    try:
        records = [record for path in sorted(out.rglob("*.jsonl")) for record in read_file(path).records]
    except (UserError, RecordError) as error:
        records, told = [], str(error)
    refused = next((record for record in records if record.status == "failed"), None)
    hardware = records[0].case.hardware if records else hardware
    known = {"fault": fault, "commit": commit, "hardware": hardware, "wall_s": round(wall_s, 1)}
    if refused is not None:
        return _refused(refused, known)
    if records and all(record.status == "passed" for record in records):
        return BlindResult.model_validate({**known, "end": "passed"})
    why = next((f"{r.status}: {r.error.message if r.error else r.reason}" for r in records), told)
    return BlindResult.model_validate({**known, "end": "crashed", "why": " ".join(why.split())})


def _refused(record: Record, known: dict[str, object]) -> BlindResult:
    assert record.parity is not None
    broken, first = record.parity.failures(), record.parity.first()
    check = f"{broken[0].subject}, {broken[0].name} ({broken[0].rule})"
    found = {"level": broken[0].level, "check": check, "place": first.place() if first else "", "broken": len(broken)}
    return BlindResult.model_validate({**known, **found, "end": "refused"})


def _run(tree: Path, asked: Sequence[str]) -> str:
    """The last line that the command said."""
    # The working folder comes first on the path of `-m`: these sources must not stand before the copy.
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "harness", *asked, f"reports={tree.parent / 'reports'}"]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"no end within {LIMIT_S:.0f} s"
    return next(reversed([line for line in done.stderr.splitlines() if line.strip()]), f"exit code {done.returncode}")
