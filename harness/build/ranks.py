"""One part of a case held by several processes: one fresh process a rank, joined by torch.distributed.

The worker starts the ranks, waits without polling, and answers for them. A rank that ends badly ends the others, which
would wait for it for ever, and the fragment says which rank it was.

torchrun does not start them: its agent polls beside what the ranks time, every 0.1 s, or sees their end later where it
polls less often. Two ranks that do nothing took 5.9 s under it and 0.5 s under its launcher within the worker, against
0.2 s here.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from harness.machine.process import Ended, tail
from harness.records import partial_record
from harness.records.case import Case, cpu_ranks
from harness.records.partial_record import PartialRecord
from harness.records.record import Failure
from harness.spec.model import ModelSpec
from harness.spec.optimization import Target

Found = TypeVar("Found")


@dataclass(frozen=True)
class Rank:
    """A process's place among `world` that meet in the file `meeting`."""

    rank: int
    world: int
    meeting: Path


def world_of(case: Case, spec: ModelSpec) -> int:
    """How many ranks the stack cuts the model over; 0 when it cuts nothing."""
    if "ranks" not in spec.menu.provides(case.optimizations):
        return 0
    return cpu_ranks(case.hardware) or torch.cuda.device_count()


def join(place: Rank, device: torch.device, deadline_s: float) -> None:
    """Enter the default group: NCCL between GPUs, gloo on a CPU, whose cores are shared out."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // place.world))
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"file://{place.meeting}",
        rank=place.rank,
        world_size=place.world,
        # Ranks wait for each other as long as the case may last: one judges kernels alone, and the dead are seen by
        # the process that started them.
        timeout=timedelta(seconds=deadline_s),
        device_id=device if device.type == "cuda" else None,
    )


def leave() -> None:
    """Once every rank is done: one that leaves early would break the others' last exchange. A captured graph that holds
    a collective must be gone before the group is: taking that apart waits for it."""
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def meet(target: Target) -> None:
    """Wait for all ranks: a sample must not begin with one waiting for another to end its last."""
    if target.world > 1:
        dist.barrier()


def agreed(target: Target, decided: bool) -> bool:
    """Rank 0's decision: ranks that time the same work apart must stop together."""
    if target.world == 1:
        return decided
    word = torch.tensor([decided], dtype=torch.int32, device=target.device)
    dist.broadcast(word, 0)
    return bool(word.item())


def shared(target: Target, found: Tensor) -> Tensor:
    """Rank 0's tensor, of the same shape on all: what several ranks are fed must not part in the last bit. A near-tie
    that two devices break otherwise would give each half of another model's answer."""
    if target.world > 1:
        found = found.contiguous()
        dist.broadcast(found, 0)
    return found


def summed(target: Target, found: float) -> float:
    """The sum over all ranks."""
    if target.world == 1:
        return found
    word = torch.tensor([found], dtype=torch.float64, device=target.device)
    dist.all_reduce(word, dist.ReduceOp.SUM)
    return float(word.item())


def first_found(target: Target, found: Found | None) -> tuple[int, Found] | None:
    """The lowest rank that found something, and what; None where none did. Every rank must ask."""
    each: list[Found | None] = [None] * target.world
    dist.all_gather_object(each, found)
    return next(((rank, one) for rank, one in enumerate(each) if one is not None), None)


def earliest(target: Target, found: int | None) -> int | None:
    """The least number that any rank found: one that goes on where another stops would wait for it for ever."""
    if target.world == 1:
        return found
    none = torch.iinfo(torch.int32).max
    word = torch.tensor([none if found is None else found], dtype=torch.int32, device=target.device)
    dist.all_reduce(word, dist.ReduceOp.MIN)
    least = int(word.item())
    return None if least == none else least


def run(arguments: Sequence[str], world: int, worker: str = "harness.execution.worker") -> PartialRecord:
    """The part named by the worker's `arguments` (case, part, out, options) on `world` ranks; rank 0 alone speaks."""
    with tempfile.TemporaryDirectory(prefix="inference-pio-ranks-") as scratch:
        places = [Rank(rank, world, Path(scratch) / "meeting") for rank in range(world)]
        ranks = [_Process(worker, arguments, place) for place in places]
        try:
            _wait(ranks)
            failed = [rank for rank in ranks if rank.failed()]
            if failed:
                return min(failed, key=_Process.ended_at).blamed()
            judged = [rank.fragment() for rank in ranks]
            return next((found for found in judged if found.status == "failed"), judged[0])
        finally:
            for rank in ranks:
                rank.end()


def _wait(ranks: Sequence[_Process]) -> None:
    """Until every rank has ended, or one has failed."""
    waiting = {os.pidfd_open(rank.process.pid): rank for rank in ranks}
    try:
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [])
            for descriptor in ready:
                ended = waiting.pop(descriptor)
                os.close(descriptor)
                ended.process.wait()
                if ended.failed():
                    return
    finally:
        for descriptor in waiting:
            os.close(descriptor)


class _Process:
    """One rank: a worker that leaves its fragment beside the meeting file."""

    def __init__(self, worker: str, arguments: Sequence[str], place: Rank) -> None:
        self.place = place
        self.left = place.meeting.with_name(f"rank-{place.rank}.json")
        self.said = place.meeting.with_name(f"rank-{place.rank}.stderr")
        case, part, _, *options = arguments
        command = [sys.executable, "-P", "-m", worker, case, part, str(self.left), *options]
        command += ["--rank", str(place.rank), "--world", str(place.world), "--meeting", str(place.meeting)]
        with self.said.open("wb") as errors:
            told = None if place.rank == 0 else subprocess.DEVNULL
            self.process = subprocess.Popen(command, stdout=told, stderr=errors)

    def failed(self) -> bool:
        """Whether it left a fragment that was not judged, which may be before it ends, or ended otherwise than well."""
        if self.process.poll() is None:
            return self.left.exists() and self.fragment().error is not None
        return self.process.returncode != 0 or self.fragment().status not in ("passed", "failed")

    def ended_at(self) -> float:
        """When it failed, for the order of blame: a rank whose partner is gone fails too, but later. One that could
        not even say so comes first."""
        return self.left.stat().st_mtime if self.left.exists() else 0.0

    def ended(self) -> Ended:
        with self.said.open("rb") as errors:
            return Ended(self.process.returncode, tail(errors))

    def fragment(self) -> PartialRecord:
        if not self.left.exists():
            end = self.ended()
            return partial_record.ended("crashed", end.how, end.last_line or partial_record.SILENT, end.tail)
        return partial_record.read(self.left)

    def blamed(self) -> PartialRecord:
        who = f"rank {self.place.rank} of {self.place.world}"
        if self.process.returncode == -signal.SIGKILL:
            return partial_record.ended("killed", "SIGKILL", f"{who}: killed from outside, often for want of memory")
        found = self.fragment()
        end = self.ended()
        after = f"{end.how} once its answer was there: {end.last_line or 'it said nothing'}"
        error = found.error or Failure(kind="Exit", message=after, traceback=end.tail)
        named = error.model_copy(update={"message": f"{who}: {error.message}"})
        return found.model_copy(update={"status": "crashed" if found.error is None else found.status, "error": named})

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
