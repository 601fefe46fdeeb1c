"""The nouns of a run: what is asked (`Case`) and everything asked together (`Plan`). Pure values, no device."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, StrictInt, StrictStr, model_serializer

from harness.records.weight_recipe import WeightRecipe
from harness.spec.parameter import own_values


class Frozen(BaseModel):
    """Immutable, closed to unknown fields, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def digest(self) -> str:
        """Equal content, equal digest."""
        return digest_of(self.model_dump(mode="json"))


def digest_of(content: Any) -> str:
    """Sixteen hex digits of the SHA-256 of the canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


DType = Literal["float32", "float16", "bfloat16"]


class WorkloadShape(Frozen):
    """What is asked of the model. A case with `new_tokens` 0 times prefill only."""

    name: str
    batch: int = Field(ge=1)
    prompt_tokens: int = Field(ge=1)
    new_tokens: int = Field(ge=0)
    shared_prefix_tokens: int = Field(default=0, ge=0)
    images: int = Field(default=0, ge=0)
    dtype: DType

    def label(self) -> str:
        return f"{self.name}: B{self.batch}, {self.prompt_tokens} prompt + {self.new_tokens} new tokens, {self.dtype}"


Processes = Annotated[int, Field(ge=0)]
Blocks = Annotated[int, Field(ge=3)]
Positive = Annotated[float, Field(gt=0)]


class TimingSettings(Frozen):
    """How long to measure and when to stop (never on significance)."""

    name: str
    processes: Processes
    """Fresh processes per case; 0 proves parity without timing."""
    min_blocks: Blocks
    max_blocks: Blocks
    half_width: Positive
    """Stop once the half-width of the 99 % interval of the log ratio is below this."""
    margin: Positive
    """A change smaller than this is `same`."""
    limit_s: Positive
    """Time limit of one process's timing."""

    @property
    def fresh_caches(self) -> bool:
        """Whether all kernels are compiled anew, in caches that begin empty and that nobody else can write."""
        return self.name == "signoff"


CPU = re.compile(r"cpu(?:_x([1-9][0-9]*))?")


def cpu_ranks(hardware: str) -> int:
    """Processes of the host that stand for devices: two of `cpu`, four of `cpu_x4`, none of what has devices."""
    named = CPU.fullmatch(hardware)
    return int(named[1] or 2) if named else 0


def gpus_first(hardware: str) -> tuple[bool, str]:
    """Sort what ran on GPUs before what ran on a CPU, each by the name of the hardware."""
    return cpu_ranks(hardware) > 0, hardware


class Case(Frozen):
    """One model x size x stack of optimizations x hardware x workload x seed."""

    model: str
    size: str
    optimizations: tuple[str, ...]
    hardware: str
    workload: WorkloadShape
    arms: tuple[str, ...]
    timing: TimingSettings
    seed: int
    weights: str | None = None
    deadline_s: float = Field(gt=0)
    parameters: dict[str, StrictInt | StrictStr] = Field(default_factory=dict)
    """`OPTIMIZATION.PARAMETER` -> value, of the parameters that are not at their defaults."""

    recipe: WeightRecipe = "trained_like"
    """Of the random weights that it is proven with, in records from version 7 on; a checkpoint takes their place."""

    @model_serializer(mode="wrap")
    def _as_before_options(self, dumped: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `parameters` and `recipe` at their defaults: such a case keeps the key that it had before they
        existed."""
        fields: dict[str, Any] = dumped(self)
        if not self.parameters:
            del fields["parameters"]
        if self.recipe == "trained_like":
            del fields["recipe"]
        return fields

    @property
    def key(self) -> str:
        """Of the exact question, protocol, arms and seed with it; what is asked by all of them is its identity
        (`harness.records.case_identity`)."""
        return self.digest()

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def on_cpu(self) -> bool:
        return cpu_ranks(self.hardware) > 0

    def stacked(self) -> tuple[str, ...]:
        """The optimizations, each with what it is told: `linear(rows=8)`."""
        return tuple(f"{name}{_told(name, self.parameters)}" for name in self.optimizations)

    def stack(self) -> str:
        return "+".join(self.stacked()) or "none"

    def asked(self) -> tuple[str, ...]:
        """The words of the command line that ask for this stack."""
        return stack_words(self.stack())

    def label(self) -> str:
        return f"{self.model}/{self.size} {self.stack()} {self.hardware} {self.workload.name}"


def stack_words(stack: str) -> tuple[str, ...]:
    """Turn what `Case.stack` said, `linear(rows=8)+rotary`, into what the command line takes:
    `optimization=[linear,rotary]`, `optimization.linear.rows=8`."""
    parts = [part.rstrip(")").partition("(") for part in stack.split("+") if part != "none"]
    told = [f"optimization.{name}.{value}" for name, _, values in parts for value in values.split(",") if value]
    return f"optimization=[{','.join(name for name, _, _ in parts)}]", *told


def _told(name: str, parameters: dict[str, int | str]) -> str:
    told = ",".join(f"{parameter}={value}" for parameter, value in own_values(name, parameters).items())
    return f"({told})" if told else ""


class Skip(Frozen):
    """A case that will not run, and why; known before the first case starts."""

    case: Case
    reason: str


class Plan(Frozen):
    """All cases of a run and every skipped one."""

    cases: tuple[Case, ...]
    skipped: tuple[Skip, ...]
    notes: tuple[str, ...] = ()
    """Choices made while expanding that a reader must know, such as what `full` leaves out on this machine."""

    def every(self) -> tuple[Case, ...]:
        """Those that will run, then those that will not."""
        return (*self.cases, *(skip.case for skip in self.skipped))

    @property
    def hash(self) -> str:
        return self.digest()
