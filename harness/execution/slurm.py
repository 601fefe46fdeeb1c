"""Cases as Slurm jobs: one job a case, in arrays of equal resources, each with its GPUs to itself.

The record that a job leaves is the truth. What Slurm says of a job is asked only to know that no record will come.
submitit writes the scripts and submits the arrays; its own watching needs accounting to see a killed job end, so the
watching is done here, over squeue and sacct.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from harness.errors import RecordError, UserError
from harness.execution import job, slurm_queue
from harness.execution.progress import Progress
from harness.execution.record_factory import RecordFactory
from harness.planning.hardware_target import HardwareTarget
from harness.planning.settings import SlurmEngineSettings
from harness.records.case import Case
from harness.records.record import Failure, Record

GRACE_S = 10.0
"""From the end of a job to its record being seen on a shared file system."""
ENDED_BADLY = ("CANCELLED", "FAILED", "NODE_FAIL", "TIMEOUT", "OUT_OF_MEMORY")
SLACK_S = 120.0
"""On top of a case's deadline and its waiting for devices: the start of the job and the writing of its record."""
BESIDE_WEIGHTS_BYTES = 8 * 2**30
"""What the processes of a job hold in a node's memory beside weights: torch and the compilers, activations, caches."""


class _Shape(NamedTuple):
    """What a case asks of Slurm."""

    gpus: int
    deadline_s: float
    memory_bytes: int
    """Of the node; 0 leaves the partition's default."""
    alone: bool
    """On a node that runs nothing else: what is timed on a CPU would wait for its lock within its limit."""

    @property
    def limit_s(self) -> float:
        return self.deadline_s + job.WAIT_S + SLACK_S


@dataclass
class _Job:
    case: Case
    number: str
    """Slurm's job id, `123_4` in an array."""
    out: Path
    limit_s: float
    """How long it may last once it has begun."""
    submitted: float
    started: float | None = None
    """When the queue was first seen with it no longer waiting."""
    gone: float | None = None
    """When the queue was first seen without it."""

    def past_its_limit(self, now: float) -> bool:
        return self.started is not None and now - self.started > self.limit_s


class SlurmEngine:
    """Runs cases of a plan on a cluster; `folder` holds scripts, logs and records until they are read, on a file
    system that the nodes share. `weights_bytes` is what a proof holds by case key."""

    def __init__(
        self,
        stamp: RecordFactory,
        places: Mapping[str, HardwareTarget],
        progress: Progress,
        settings: SlurmEngineSettings,
        folder: Path,
        worker_module: str,
        weights_bytes: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._stamp = stamp
        self._places = places
        self._progress = progress
        self._settings = settings
        self._folder = folder
        self._worker = worker_module
        self._weights_bytes = weights_bytes
        self.interrupted = False
        self._heard = time.monotonic()
        """When Slurm last answered."""

    def records(self, cases: Sequence[Case]) -> Iterator[Record]:
        """One record per case, as they end. After an interrupt every job is canceled and its case is `lost`, and so
        is whatever is still in the queue when the iterator is left."""
        self._folder.mkdir(parents=True, mode=0o700)
        waiting: list[_Job] = []
        try:
            for shape in dict.fromkeys(map(self._shape, cases)):
                waiting += self._submit(shape, [case for case in cases if self._shape(case) == shape])
            while waiting:
                try:
                    yield from self._ended(waiting)
                    if waiting:
                        time.sleep(self._settings.poll_s)
                except KeyboardInterrupt:
                    self.interrupted = True
                    slurm_queue.cancel([held.number for held in waiting])
                    for left in waiting:
                        yield self._stamp.lost(left.case, f"interrupted; its Slurm job {left.number} was canceled")
                    waiting = []
        finally:
            slurm_queue.cancel([held.number for held in waiting])

    def _shape(self, case: Case) -> _Shape:
        place = self._places[case.hardware]
        asked = (self._settings.memory_gib_per_gpu or 0) * 2**30 * max(1, place.gpu_count)
        weights = 0 if place.kind == "cuda" else self._weights_bytes.get(case.key, 0)
        held = weights + BESIDE_WEIGHTS_BYTES if weights else 0
        alone = place.kind == "cpu" and case.timing.processes > 0
        return _Shape(place.gpu_count, case.deadline_s, max(round(asked), held), alone)

    def _submit(self, shape: _Shape, cases: Sequence[Case]) -> list[_Job]:
        executor = self._executor(shape)
        kept = self._folder.parent
        calls = [
            (case, self._stamp, self._places[case.hardware], self._worker, self._folder / f"{case.key}.json", kept)
            for case in cases
        ]
        jobs = executor.map_array(job.run, *zip(*calls, strict=True))
        for case in cases:
            self._progress.begin(case)
        now = self._heard = time.monotonic()
        numbers = [str(made.job_id) for made in jobs]
        outs = [call[4] for call in calls]
        return [_Job(*held, shape.limit_s, now) for held in zip(cases, numbers, outs, strict=True)]

    def _executor(self, shape: _Shape) -> Any:
        try:
            import submitit
        except ImportError:
            raise UserError("engine=slurm needs submitit: pip install 'inference-pio[slurm]'") from None
        if shutil.which("sbatch") is None:
            raise UserError("engine=slurm needs Slurm's commands, and sbatch is not on the path")
        gpus, asked = shape.gpus, self._settings
        executor = submitit.SlurmExecutor(folder=self._folder / "submitit", max_num_timeout=0)
        options: dict[str, Any] = {
            "job_name": slurm_queue.jobs_name(self._stamp.run),
            "time": int(shape.limit_s // 60 + 1),
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": asked.cpus_per_gpu * max(1, gpus),
            "setup": list(asked.setup),
            "array_parallelism": 10_000,
        }
        options |= {"partition": asked.partition} if asked.partition else {}
        options |= {"account": asked.account} if asked.account else {}
        options |= {"mem": f"{-(-shape.memory_bytes // 2**20)}M"} if shape.memory_bytes else {}
        options |= {"gres": f"gpu:{gpus}"} if gpus else {}
        options |= {"exclusive": True} if shape.alone else {}
        executor.update_parameters(**options)
        return executor

    def _ended(self, waiting: list[_Job]) -> Iterator[Record]:
        """The records of the jobs that have ended, which leave `waiting`. One on disk stands whatever Slurm says."""
        queue, now = slurm_queue.states(), time.monotonic()
        self._heard = self._heard if queue is None else now
        for held in list(waiting):
            record = self._left(held) if held.out.exists() else self._without_record(held, queue, now)
            if record is not None:
                waiting.remove(held)
                self._progress.end(record)
                yield record

    def _without_record(self, held: _Job, queue: slurm_queue.States | None, now: float) -> Record | None:
        """What ended a job before it left a record; None while one may come."""
        if held.past_its_limit(now):
            slurm_queue.cancel([held.number])
            return self._overrun(held)
        if queue is None:
            silent = now - self._heard > held.limit_s
            why = f"Slurm said nothing of job {held.number} for longer than it may last, and no record came"
            return self._stamp.lost(held.case, why) if silent else None
        state, reason = queue.get(held.number, ("", ""))
        if state == "PENDING":
            return self._kept_waiting(held, reason, now)
        if state:
            held.started, held.gone = held.started or now, None
            return None
        held.gone = held.gone or now
        state = slurm_queue.accounted(held.number)
        if now - held.gone < GRACE_S and not state.startswith(ENDED_BADLY):
            return None
        return self._left(held) if held.out.exists() else self._recordless(held, state)

    def _kept_waiting(self, held: _Job, reason: str, now: float) -> Record | None:
        held.started = held.gone = None
        if now - held.submitted <= self._settings.pending_s:
            return None
        slurm_queue.cancel([held.number])
        waited = f"waited {self._settings.pending_s:g} s in the queue ({reason})"
        return self._stamp.lost(held.case, f"Slurm job {held.number} {waited}")

    def _overrun(self, held: _Job) -> Record:
        said = f"Slurm job {held.number} was still there {held.limit_s:g} s after it began, and was canceled"
        return self._stamp.record(held.case, 0.0, status="timed_out", error=Failure(kind="Deadline", message=said))

    def _left(self, held: _Job) -> Record:
        try:
            record = Record.model_validate_json(held.out.read_text())
        except (ValidationError, RecordError) as error:
            return self._stamp.lost(held.case, f"Slurm job {held.number} left a record that cannot be read: {error}")
        if (record.run, record.plan, record.key) != (self._stamp.run, self._stamp.plan, held.case.key):
            return self._stamp.lost(held.case, f"Slurm job {held.number} left the record of another case")
        return record

    def _recordless(self, held: _Job, state: str) -> Record:
        said = f"Slurm job {held.number} ended {state or 'unknown to accounting'} and left no record"
        ends = {"TIMEOUT": "timed_out", "OUT_OF_MEMORY": "out_of_memory"}
        status = ends.get(state, "killed")
        return self._stamp.record(held.case, 0.0, status=status, error=Failure(kind=state or "gone", message=said))
