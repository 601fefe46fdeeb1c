"""Cases on this machine: one fresh process per part of a case, one case at a time, one lock per device.

    python -m harness.worker CASE.json prove OUT.json
    python -m harness.worker CASE.json time OUT.json --process 0

A worker writes a `Fragment` to OUT.json and may print `::progress FRACTION TEXT`. However it ends, the case gets a
record with a word for it, and the other cases go on.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from harness.case import Case, Plan
from harness.engines import fragment, locks, process
from harness.engines.fragment import Fragment
from harness.place import Place
from harness.record import Environment, Record

ROOT = Path(__file__).resolve().parents[2]
PROGRESS = re.compile(r"^::progress (\d*\.?\d+) (.*)$")


class Progress(Protocol):
    """Who is told how the run goes."""

    def begin(self, case: Case) -> None: ...
    def part(self, name: str) -> None: ...
    def say(self, fraction: float, text: str) -> None: ...
    def end(self, record: Record) -> None: ...


class LocalEngine:
    """Runs the cases of a plan. `places` says for each hardware name of the plan which devices fit it. With `mutants`
    the gate of every case that passes is judged too, on planted faults.
    A failing proof's reproducer is kept in `folder`."""

    def __init__(
        self,
        run: str,
        environment: Environment,
        places: Mapping[str, Place],
        progress: Progress,
        worker_module: str = "harness.worker",
        mutants: bool = False,
        folder: Path | None = None,
    ) -> None:
        self._run = run
        self._environment = environment
        self._places = places
        self._progress = progress
        self._worker = worker_module
        self._mutants = mutants
        self._folder = folder

    def records(self, plan: Plan) -> Iterator[Record]:
        """One record per case and per skip. After an interrupt the case at hand is `killed`, the rest are `lost`."""
        for skip in plan.skipped:
            yield self._record(plan, skip.case, 0.0, status="skipped", reason=skip.reason)
        interrupted = False
        for case in plan.cases:
            if interrupted:
                yield self._record(plan, case, 0.0, status="lost", reason="interrupted before it started")
                continue
            self._progress.begin(case)
            started_at, begun = _now(), time.monotonic()
            parts: list[Fragment] = []
            try:
                self._run_parts(case, parts)
            except KeyboardInterrupt:
                interrupted = True
                parts.append(fragment.ended("killed", "KeyboardInterrupt", "interrupted from the keyboard"))
            fields = fragment.merge(parts[0], parts[1:])
            record = self._record(plan, case, time.monotonic() - begun, started_at=started_at, **fields)
            self._progress.end(record)
            yield record

    def _run_parts(self, case: Case, parts: list[Fragment]) -> None:
        place = self._places[case.hardware]
        devices, count = (place.gpu_uuids, place.gpu_count) if place.kind == "cuda" else (("cpu",), 1)
        with (
            locks.hold(
                devices, count, lambda held: self._progress.part(f"waiting: {held} is held by another run")
            ) as held,
            tempfile.TemporaryDirectory(prefix="inference-pio-") as scratch,
        ):
            deadline = time.monotonic() + case.deadline_s
            asked = Path(scratch) / "case.json"
            asked.write_text(case.model_dump_json())
            visible = held if place.kind == "cuda" else ()
            proven = fragment.proof(self._part(case, asked, ["prove"], visible, deadline))
            if self._folder is not None:
                left = asked.with_name("prove.json")
                proven = fragment.keep_reproducer(left, self._folder, f"{self._run}-{case.key}", proven)
            parts.append(proven)
            for index in range(case.timing.processes):
                if parts[-1].status != "passed":
                    return
                parts.append(self._part(case, asked, ["time", str(index)], visible, deadline))
            if self._mutants and parts[-1].status == "passed":
                parts.append(self._part(case, asked, ["mutants"], visible, deadline))

    def _part(self, case: Case, asked: Path, part: list[str], visible: tuple[str, ...], deadline: float) -> Fragment:
        """One process. Its fragment, or one made from the way it ended."""
        left = asked.with_name(f"{'-'.join(part)}.json")
        command = [sys.executable, "-m", self._worker, str(asked), part[0], str(left)]
        name = "prove parity" if part[0] == "prove" else "plant faults"
        if part[0] == "time":
            command += ["--process", part[1]]
            name = f"time, process {int(part[1]) + 1} of {case.timing.processes}"
        self._progress.part(name)
        interpret = part[0] in ("prove", "mutants") and not visible
        end = process.run(command, _environment(visible, interpret), max(0.0, deadline - time.monotonic()), self._hear)
        if end.code is None:
            return fragment.ended(
                "timed_out", "Deadline", f"{name}: past the {case.deadline_s:g} s of its case", end.tail
            )
        if end.code == -signal.SIGKILL:
            return fragment.ended(
                "killed", "SIGKILL", f"{name}: killed from outside, often for want of memory", end.tail
            )
        written = fragment.read(left) if left.exists() else None
        if written is None or (end.code != 0 and written.status == "passed"):
            return fragment.ended("crashed", _how(end.code), f"{name}: {_last_line(end.tail)}", end.tail)
        return written

    def _hear(self, line: str) -> None:
        match = PROGRESS.match(line)
        if match:
            self._progress.say(min(1.0, float(match[1])), match[2])

    def _record(self, plan: Plan, case: Case, wall_s: float, started_at: str | None = None, **fields: Any) -> Record:
        return Record(
            run=self._run,
            plan=plan.hash,
            case=case,
            key=case.key,
            started_at=started_at or _now(),
            wall_s=wall_s,
            environment=self._environment,
            **fields,
        )


def _environment(visible: tuple[str, ...], interpret: bool) -> dict[str, str]:
    """The GPUs of this case and no others; Triton interpreted only where parity is proven without a GPU."""
    inherited = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    paths = os.pathsep.join(path for path in (str(ROOT), inherited.get("PYTHONPATH")) if path)
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(visible), "PYTHONPATH": paths}
    return inherited | chosen | ({"TRITON_INTERPRET": "1"} if interpret else {})


def _how(code: int) -> str:
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"


def _last_line(tail: str) -> str:
    lines = [line for line in tail.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing and left no fragment"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
