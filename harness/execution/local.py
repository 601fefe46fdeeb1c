"""Cases on this machine: one fresh process per part of a case, as many cases at a time as there are workers, one lock
per device.

    python -m harness.execution.worker CASE.json prove OUT.json
    python -m harness.execution.worker CASE.json time OUT.json --process 0

A worker writes a `PartialRecord` to OUT.json and may print `::progress FRACTION TEXT`. However it ends, the case gets a
record with a word for it, and the other cases go on.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType

from harness.build.provenance import FRESH
from harness.execution import locks
from harness.execution.part import Part
from harness.execution.progress import Progress, Shared, Told
from harness.execution.proofs import Proofs
from harness.execution.record_factory import RecordFactory, now
from harness.machine import cores, process
from harness.machine.installation import ROOT
from harness.machine.process import Stop, Stopped
from harness.planning.hardware_target import HardwareTarget
from harness.records import check_log, partial_record
from harness.records.case import Case
from harness.records.partial_record import PartialRecord
from harness.records.record import Record
from harness.records.redaction import withheld

CACHES = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "CUDA_CACHE_PATH")
FROM_OUTSIDE = {
    -signal.SIGKILL: ("SIGKILL", "for want of memory"),
    -signal.SIGTERM: ("SIGTERM", "by a scheduler or a shutdown"),
}
"""Exit codes that no worker gives itself: the signal, and who mostly sends it."""


class LocalEngine:
    """Runs cases of a plan, `workers` at a time. `places` says for each hardware name which devices fit it. A failing
    proof's reproducer is kept in `folder`. With `mutants` the gate of every case that passes is judged too, on planted
    faults. Of a case among `proofs` that one stands, and so does an earlier case's of this run where a proof would be
    fed the same. `weights_bytes` is what a proof holds by case key: cases share a CPU only where its memory would hold
    as many of them as there are workers. A case that has waited `wait_s` for its devices is lost. The kernels of a
    build are timed with the first case of it: no workload changes what they are timed on. Op-level verdicts in the
    folder `verdicts` stand, unless a case asks for fresh caches."""

    def __init__(
        self,
        stamp: RecordFactory,
        places: Mapping[str, HardwareTarget],
        progress: Progress,
        folder: Path,
        worker_module: str = "harness.execution.worker",
        workers: int = 1,
        mutants: bool = False,
        proofs: Proofs | None = None,
        weights_bytes: Mapping[str, int] = MappingProxyType({}),
        wait_s: float = math.inf,
        verdicts: Path | None = None,
    ) -> None:
        self._stamp = stamp
        self._places = places
        self._progress = Shared(progress, named=workers > 1)
        self._worker = worker_module
        self._workers = workers
        self._folder = folder
        self._mutants = mutants
        self._proofs = proofs or Proofs()
        self._weights_bytes = weights_bytes
        self._wait_s = wait_s
        self._verdicts = verdicts
        self._stop = Stop()
        self._first: dict[str, str] = {}
        self.interrupted = False

    def records(self, cases: Sequence[Case]) -> Iterator[Record]:
        """One record per case, as they end. After an interrupt the cases at hand are `killed`, the rest are `lost`.
        Leaving the iterator early ends every worker."""
        pool = ThreadPoolExecutor(max_workers=self._workers)
        pending = {pool.submit(self._record, case) for case in cases}
        try:
            while pending:
                try:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt:
                    self.interrupted = True
                    self._stop.fire()
                    continue
                for future in done:
                    yield future.result()
        finally:
            self._stop.fire()
            pool.shutdown(cancel_futures=True)

    def _record(self, case: Case) -> Record:
        if self._stop.fired():
            return self._stamp.lost(case, "interrupted before it started")
        told = self._progress.of(case)
        started_at, begun = now(), time.monotonic()
        parts: list[PartialRecord] = []
        try:
            with self._devices(case, told) as held:
                started_at, begun = now(), time.monotonic()
                self._run_parts(case, parts, told, held)
        except Stopped:
            parts.append(partial_record.ended("killed", "KeyboardInterrupt", "interrupted from the keyboard"))
        except locks.Busy:
            return self._ended(self._stamp.lost(case, f"waited {self._wait_s:g} s for a device that others held"), told)
        fields = partial_record.merge(parts[0], parts[1:])
        record = self._stamp.record(case, time.monotonic() - begun, started_at=started_at, **fields)
        self._proofs.add(withheld(record, os.environ))
        return self._ended(record, told)

    def _ended(self, record: Record, told: Told) -> Record:
        told.end(record)
        return record

    def _devices(self, case: Case, told: Told) -> AbstractContextManager[tuple[str, ...]]:
        place = self._places[case.hardware]
        on_gpu = place.kind == "cuda"
        devices, count = (place.gpu_uuids, place.gpu_count) if on_gpu else (("cpu",), 1)
        return locks.hold(
            devices,
            count,
            lambda held: told.part(f"waiting for {held}"),
            self._rest_until(time.monotonic() + self._wait_s),
            shared=self._shares(case),
        )

    def _rest_until(self, limit: float) -> Callable[[float], None]:
        def rest(seconds: float) -> None:
            if time.monotonic() > limit:
                raise locks.Busy
            self._stop.rest(seconds)

        return rest

    def _shares(self, case: Case) -> bool:
        """Whether others may run beside it: the memory of a GPU holds one case; a CPU's is shared by those that time
        nothing, where every worker could hold as much at once."""
        place = self._places[case.hardware]
        held = self._workers * self._weights_bytes.get(case.key, 0)
        has_room = place.memory_bytes is None or held <= place.memory_bytes
        return place.kind == "cpu" and case.timing.processes == 0 and has_room

    def _run_parts(self, case: Case, parts: list[PartialRecord], told: Told, held: tuple[str, ...]) -> None:
        with tempfile.TemporaryDirectory(prefix="inference-pio-") as scratch:
            deadline = time.monotonic() + case.deadline_s
            asked = Path(scratch) / "case.json"
            asked.write_text(case.model_dump_json())
            visible = held if self._places[case.hardware].kind == "cuda" else ()
            proven = self._proven(case, asked, visible, deadline, told)
            name = f"{self._stamp.run}-{case.key}"
            parts.append(
                partial_record.keep_reproducer(asked.with_name(Part("prove").file), self._folder, name, proven)
            )
            for index in range(case.timing.processes):
                if parts[-1].status != "passed":
                    return
                first = not index and self._first.setdefault(_build(case), case.key) == case.key
                parts.append(self._part(case, asked, Part("time", index, first), visible, deadline, told))
            if self._mutants and parts[-1].status == "passed":
                parts.append(self._part(case, asked, Part("mutants"), visible, deadline, told))

    def _proven(self, case: Case, asked: Path, visible: tuple[str, ...], deadline: float, told: Told) -> PartialRecord:
        standing = self._proofs.of(case)
        if standing is None or standing.proof is None:
            return partial_record.proof(self._part(case, asked, Part("prove"), visible, deadline, told))
        told.part(f"proven by {standing.proof.run}")
        return standing

    def _part(
        self, case: Case, asked: Path, part: Part, visible: tuple[str, ...], deadline: float, told: Told
    ) -> PartialRecord:
        """One process. Its fragment, or one made from the way it ended."""
        left = asked.with_name(part.file)
        command = [sys.executable, "-P", "-m", self._worker, *part.arguments(asked, left)]
        if part.does == "prove" and self._verdicts is not None and not case.timing.fresh_caches:
            command += ["--run", self._stamp.run, "--verdicts", str(self._verdicts)]
        name = part.label(case.timing.processes)
        told.part(name)
        interpret = part.does != "time" and not visible
        left_s = max(0.0, deadline - time.monotonic())
        environment = _environment(visible, interpret) | _caches(case, asked.parent)
        if self._shares(case):
            environment |= cores.share(self._workers)
        end = process.run(command, environment, left_s, told.hear, self._stop)
        return _fragment(end, left, name, told.last, case.deadline_s)


def _fragment(end: process.Ended, left: Path, name: str, last: str, deadline_s: float) -> PartialRecord:
    """What a process wrote to `left`, or what its end and the checks that it had made until then say."""
    if end.code is None:
        made = partial_record.ended("timed_out", "Deadline", f"{name}: past the {deadline_s:g} s of its case", end.tail)
    elif end.code in FROM_OUTSIDE:
        sent, why = FROM_OUTSIDE[end.code]
        made = partial_record.ended("killed", sent, f"{name}: killed from outside, often {why}", end.tail)
    else:
        written = partial_record.read(left) if left.exists() else None
        if written is not None and (end.code == 0 or written.status != "passed"):
            return written
        at = f", at `{last}`" if last else ""
        said = end.last_line or (partial_record.SILENT if written is None else "it said nothing")
        made = partial_record.ended("crashed", end.how, f"{name}{at}: {said}", end.tail)
    return made.model_copy(update={"parity": check_log.refused(check_log.beside(left))})


def _build(case: Case) -> str:
    """What the kernels of a case and the shapes that they are timed on follow from."""
    return "/".join((case.model, case.size, case.stack(), case.hardware, case.workload.dtype, str(case.seed)))


def _caches(case: Case, folder: Path) -> dict[str, str]:
    """Kernel caches of this case alone, where it asks for them: `folder` is its own, with mode 0700, and was empty."""
    if not case.timing.fresh_caches:
        return {}
    return {name: str(folder / name.lower()) for name in CACHES} | {FRESH: "1"}


def _environment(visible: tuple[str, ...], interpret: bool) -> dict[str, str]:
    """The GPUs of this case and no others; Triton interpreted only where parity is proven without a GPU."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("TRITON_INTERPRET", FRESH)}
    paths = os.pathsep.join(path for path in (str(ROOT), inherited.get("PYTHONPATH")) if path)
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(visible), "PYTHONPATH": paths}
    return inherited | chosen | ({"TRITON_INTERPRET": "1"} if interpret else {})
