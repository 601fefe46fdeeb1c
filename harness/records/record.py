"""What happened to a case. The invariants hold on construction: a speed without a passed parity cannot be built."""

from __future__ import annotations

from collections import Counter
from typing import Literal, Self

from pydantic import Field, model_validator

from harness.errors import RecordError
from harness.records.case import Case, Frozen
from harness.records.checks import Parity
from harness.records.kill_matrix import KillMatrix
from harness.records.recorded_environment import Environment as Environment
from harness.spec.optimization import Capability

SCHEMA_VERSION = 7
READABLE = (1, 2, 3, 4, 5, 6, 7)
"""Schema versions whose records mean the same today: version 2 added the kill matrix and the reproducer, version 3 the
memory that the GPU itself counts, version 4 the kernels of a decode step, hot times, whether a warm-up settled, and the
last line of a run file, version 5 the experts that a call visits, version 6 the parameters of a case and what each
optimization provides, version 7 the level `reference`, how weights were made and what they are like, and what was
launched, what a checkpoint and the sources held."""

Status = Literal["passed", "failed", "crashed", "out_of_memory", "killed", "timed_out", "lost", "skipped"]
FAILURES: frozenset[str] = frozenset({"failed", "crashed", "out_of_memory", "killed", "timed_out"})

INCONCLUSIVE: frozenset[str] = frozenset({"lost", "killed"})
"""Ends that say nothing about the case: it is run again on resume, and a later record of it replaces this one."""

CANDIDATE = "candidate"
WALL_DISAGREEMENT = 0.1
"""Where device events and the wall clock differ by more, work ran where the events did not look."""

CONTROL = "again"
"""The candidate a second time, under the name that records have for it: an A/A pair in every block."""
"""The arm that is the candidate once more: what differs between the two is the measurement's own error."""
REFERENCE = "reference"

Phase = Literal["prefill", "decode"]


class Block(Frozen):
    """The machine's state around one block of samples; a throttled block is kept here and left out of estimates."""

    process: int
    index: int
    phase: Phase
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttle: tuple[str, ...] = ()
    foreign_processes: int = 0
    sentinel_ms: float | None = None
    wall_disagreement: float = 0.0
    """Relative difference between device events and the wall clock: large when work hides on another stream."""
    settled: bool | None = None
    """Whether the warm-up before the blocks of this process and phase had settled. None in records before version 4."""

    @property
    def dropped(self) -> bool:
        return bool(self.throttle)


class Series(Frozen):
    """Raw samples of one arm in one phase in one process; sample i was taken in block `blocks[i]`."""

    arm: str
    phase: Phase
    process: int
    samples_ms: tuple[float, ...]
    """Milliseconds per call: per decode step, or per prefill."""
    blocks: tuple[int, ...]

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.samples_ms) != len(self.blocks):
            raise RecordError(
                f"series {self.arm}/{self.phase}: {len(self.samples_ms)} samples, {len(self.blocks)} blocks"
            )
        if any(sample <= 0 for sample in self.samples_ms):
            raise RecordError(f"series {self.arm}/{self.phase}: a sample that is not positive")
        return self


class ArmReport(Frozen):
    """One arm in one process: what it cost to get ready, or why it did not run."""

    name: str
    label: str
    process: int
    load_s: float = 0.0
    compile_s: float = 0.0
    capture_s: float = 0.0
    peak_memory_bytes: int = 0
    """The allocator's peak beside what was held before this arm was opened."""
    device_memory_bytes: int | None = None
    """By how much the whole GPU's memory in use grew (NVML): the allocator's reserve, captured graphs, workspaces. None
    where the GPU does not tell."""
    energy_j_per_token: float | None = None
    """Joules of the whole GPU, all of them where there are several: per new token of the batch where the workload asks
    for new tokens, else per prompt token. None where the GPU does not tell."""
    decode_kernels_per_layer: float | None = None
    """Kernels that the device runs for one decode step, those of embedding and head among them, by decoder layers. None
    where none was counted: off a GPU, without new tokens, and in all processes but the last."""
    rechecked: bool = False
    """What was timed was compared with a reference that was not, in every phase, after timing and on rewritten inputs.
    Versions of the harness before `recheck.py` compared the candidate alone, whatever they say here of other arms."""
    judged_blocks: int | None = None
    """Timed blocks, of all phases, in which what this arm gave was kept and compared with the reference on the same
    inputs. None in records before version 7, whose timed inputs stayed the same from block to block."""
    absent: str | None = None
    """Why this arm has no series; None when it ran."""


class Work(Frozen):
    """The floor of a phase: least bytes and flops of one call, from the model's own formulas."""

    phase: Phase
    bytes: int
    flops: int
    experts: float | None = None
    """Distinct experts that the tokens of a call visited in a layer that chooses, the mean over its layers and calls,
    counted on the reference; None of a model without experts."""


class PhaseDispatches(Frozen):
    """Which launches the candidate's calls of a timed phase are made of."""

    phase: Phase
    launched: tuple[str, ...]
    """Sorted; empty where nothing of ours is launched, as on a CPU, where timing does without Triton."""

    def unproven(self, proven: tuple[str, ...] | None) -> dict[str, int]:
        """Function or kernel -> how many of its dispatches are not among the `proven` ones."""
        missing = sorted({*self.launched} - {*(proven or ())})
        return dict(Counter(name.partition("(")[0] for name in missing))


class Ceilings(Frozen):
    """Measured in the same run, or absent: never taken from a datasheet."""

    copy_bytes_per_s: float | None = None
    read_bytes_per_s: float | None = None
    resident_bytes_per_s: float | None = None
    """Read from a buffer that a cache holds. None in records before version 7."""
    matmul_flops_per_s: float | None = None
    matmul_dtype: str | None = None


class KernelTime(Frozen):
    """One kernel at one real shape, against its eager twin. Cold and hot times are never compared with each other."""

    kernel: str
    case: str
    median_ms: float
    """Caches cold: no launch finds anything of its inputs in a cache."""
    low_ms: float
    high_ms: float
    n: int
    hot_ms: float | None = None
    """Launched again and again on the same inputs, with what the caches keep of them. None in records before
    version 4."""
    hot_low_ms: float | None = None
    hot_high_ms: float | None = None
    twin_ms: float
    """Caches cold."""
    bytes: int
    flops: int
    written_bytes: int | None = None
    """Of its outputs: a cache may hold so many of `bytes` back. None in records before version 4."""
    from_host: str | None = None
    """Why the launches were no CUDA graph's: the host's time is in `median_ms`."""
    twin_from_host: str | None = None
    """The same of the eager twin and `twin_ms`."""


class ReceiptNote(Frozen):
    optimization: str
    touched: tuple[str, ...]
    notes: tuple[str, ...] = ()
    provides: tuple[Capability, ...] | None = None
    """In alphabetical order. None in records before version 6."""


class Failure(Frozen):
    kind: str
    message: str
    traceback: str = ""


class Provenance(Frozen):
    """Hashes of what the result depends on."""

    hf_config: str
    kernel_sources: str
    checkpoint: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 over the weights, tokenizer and configs of the checkpoint that was loaded. None where the weights are
    random, and in records before version 7."""
    aot_compiled: tuple[str, ...] = ()
    """Kernels compiled ahead of time for sm_90 in this run, without running them."""
    fresh_caches: bool = False
    """Whether every kernel of this run was compiled in it, none taken from a cache."""
    lock: str = ""
    """Hash of constraints.txt: which versions CI judges these sources with. Empty where there is no such file, and in
    records from before it was kept."""


class StandingProof(Frozen):
    """The record of another run, whose proof stands for this one's."""

    run: str
    content: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of that record's content."""


class Record(Frozen):
    schema_version: int = SCHEMA_VERSION
    run: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")
    plan: str
    shard: str | None = None
    """`2/8` when the run was one shard of a plan."""
    case: Case
    key: str
    status: Status
    started_at: str
    wall_s: float
    """Of its processes: waiting for a device is not in it."""
    environment: Environment | None = None
    provenance: Provenance | None = None
    receipts: tuple[ReceiptNote, ...] = ()
    parity: Parity | None = None
    proof: StandingProof | None = None
    """Where the checks that came before the timing are from; None where this run made them itself."""
    kill_matrix: KillMatrix | None = None
    arms: tuple[ArmReport, ...] = ()
    series: tuple[Series, ...] = ()
    blocks: tuple[Block, ...] = ()
    work: tuple[Work, ...] = ()
    dispatches: tuple[PhaseDispatches, ...] | None = None
    """Of every timed phase. None where nothing was timed, and in records before version 7."""
    ceilings: Ceilings | None = None
    kernels: tuple[KernelTime, ...] = ()
    timing_notes: tuple[str, ...] = ()
    error: Failure | None = None
    reason: str | None = None
    """Why a case was skipped or lost."""

    @model_validator(mode="after")
    def _invariants(self) -> Self:
        if self.key != self.case.key:
            raise RecordError(f"record key {self.key} is not the key of its case {self.case.key}")
        if self.series and not (self.parity and self.parity.passed):
            raise RecordError("a speed without a passed parity in the same record")
        for timed in self.dispatches or ():
            proven = self.parity.dispatches if self.parity else None
            if timed.unproven(proven) and any(series.phase == timed.phase for series in self.series):
                raise RecordError(f"a speed of a {timed.phase} whose launches no proof has seen")
        if self.kill_matrix and not (self.parity and self.parity.passed):
            raise RecordError("a kill matrix of a gate that fails without faults: what it refused says nothing")
        if self.status == "passed" and not (self.parity and self.parity.passed):
            raise RecordError("status `passed` without a passed parity")
        if self.status == "failed" and (self.parity is None or self.parity.passed):
            raise RecordError("status `failed` means a broken parity; other ends have words of their own")
        if self.status in ("skipped", "lost") and not self.reason:
            raise RecordError(f"status `{self.status}` needs its reason")
        if self.status in FAILURES - {"failed"} and self.error is None:
            raise RecordError(f"status `{self.status}` needs its error")
        return self

    @property
    def provisional(self) -> bool:
        """A dirty tree cannot be reproduced: never a baseline, never signed off."""
        return self.environment is None or self.environment.dirty
