"""What a user asked for: the typed mirror of `conf/`. No I/O; the plan resolves what is `auto` here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    ValidationError,
    model_validator,
)

from harness.errors import ConfigError, UnknownName
from harness.records.case import Blocks, DType, Frozen, Positive, Processes, TimingSettings, WorkloadShape, cpu_ranks
from harness.records.weight_recipe import WeightRecipe

Kind = Literal["cpu", "cuda"]
FORBIDDEN_KEYS = ("_target_", "_partial_", "_args_", "_recursive_")


class Named(Frozen):
    name: str


class EmptyOption(Frozen):
    """An option whose name says it all."""


Scalar = StrictBool | StrictInt | StrictFloat | StrictStr | None


class LocalEngineSettings(Frozen):
    name: Literal["local"]
    workers: Annotated[int, Field(ge=1)] | Literal["auto"]
    """Cases at a time; `auto` is one for each GPU that the plan may use, and one on a CPU."""


class SlurmEngineSettings(Frozen):
    name: Literal["slurm"]
    partition: str | None
    account: str | None
    setup: tuple[str, ...]
    """Shell lines of a job before its case, such as `module load cuda`."""
    cpus_per_gpu: int = Field(ge=1)
    memory_gib_per_gpu: float | None
    """At least; a case on a CPU asks for what its weights take. None leaves the others the partition's default."""
    pending_s: float = Field(gt=0)
    """A job that has waited so long is given up, and its case is lost."""
    poll_s: float = Field(gt=0)


class Auto(Frozen):
    name: Literal["auto"]


class Hardware(Frozen):
    """A machine a case may ask for."""

    name: str
    gpu_count: int = Field(ge=0)
    """0 is the CPU."""
    memory_bytes: int | None
    """Of one GPU; None on a CPU."""
    capability: str | None
    """Of CUDA, as `9.0`; None on a CPU."""
    match: str | None
    """Regular expression, searched in the device's name."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        if bool(self.gpu_count) == bool(cpu_ranks(self.name)):
            raise ValueError(f"{self.name} with {self.gpu_count} GPUs: what has none, and it alone, is cpu or cpu_xN")
        return self

    @property
    def kind(self) -> Kind:
        return "cuda" if self.gpu_count else "cpu"


class WorkloadSettings(Frozen):
    name: str
    batch: int = Field(ge=1)
    prompt_tokens: int = Field(ge=1)
    new_tokens: int = Field(ge=0)
    shared_prefix_tokens: int = Field(ge=0)
    images: int = Field(ge=0)
    dtype: DType | Literal["auto"]

    def shape(self, kind: Kind) -> WorkloadShape:
        """`auto` is bfloat16 on a GPU and float16 on a CPU, where Triton's interpreter gets bfloat16 silently wrong."""
        dtype = {"cpu": "float16", "cuda": "bfloat16"}[kind] if self.dtype == "auto" else self.dtype
        return WorkloadShape.model_validate(self.model_dump() | {"dtype": dtype})


class AutoWorkload(Frozen):
    name: Literal["auto"]
    cpu: WorkloadSettings
    cuda: WorkloadSettings


class ArmSettings(Frozen):
    """An arm of its own name, or, for `auto`, the arms of each kind of hardware."""

    cpu: tuple[str, ...] | None = None
    cuda: tuple[str, ...] | None = None


class PerKind(Frozen):
    cpu: Positive
    cuda: Positive


class TimingChoice(Frozen):
    name: str
    processes: Processes
    min_blocks: Blocks
    max_blocks: Blocks
    half_width: PerKind
    margin: PerKind
    limit_s: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_blocks < self.min_blocks:
            raise ValueError(f"max_blocks={self.max_blocks} is below min_blocks={self.min_blocks}")
        return self

    def resolve(self, kind: Kind) -> TimingSettings:
        chosen = {"half_width": getattr(self.half_width, kind), "margin": getattr(self.margin, kind)}
        return TimingSettings.model_validate(self.model_dump() | chosen)


def _variant(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return "auto" if name == "auto" else "fixed"


HardwareChoice = Annotated[Annotated[Auto, Tag("auto")] | Annotated[Hardware, Tag("fixed")], Discriminator(_variant)]
WorkloadChoice = Annotated[
    Annotated[AutoWorkload, Tag("auto")] | Annotated[WorkloadSettings, Tag("fixed")], Discriminator(_variant)
]


EngineChoice = Annotated[LocalEngineSettings | SlurmEngineSettings, Field(discriminator="name")]


class Settings(Frozen):
    """One composed job. Jobs of one sweep share everything below `weights`."""

    model: Named
    size: Named
    optimization: dict[str, EmptyOption | Scalar]
    """Names of the stack, and `OPTIMIZATION.PARAMETER` -> value."""
    hardware: HardwareChoice
    workload: WorkloadChoice
    arm: dict[str, ArmSettings]
    timing: TimingChoice
    seed: int
    deadline_s: float = Field(gt=0)
    weights: str | None
    recipe: WeightRecipe
    engine: EngineChoice
    shard: str | None
    resume: str
    """`auto` goes on with an interrupted run of the same plan, `off` starts anew, a path names the run."""
    proof: str | None
    """A run that proved the cases, so that they are timed alone."""
    verdicts: Literal["reuse", "anew"]
    """Whether op-level verdicts of the same sources stand; in cases timed for a sign-off they never do."""
    plan: Literal["run", "only"]
    out: str
    reports: str
    report: tuple[Literal["html", "markdown"], ...]

    def stack(self) -> tuple[str, ...]:
        """The names asked for: optimizations, `full`, a family or a glob."""
        return tuple(name for name, held in self.optimization.items() if isinstance(held, EmptyOption))

    def parameters(self) -> dict[str, Scalar]:
        """`OPTIMIZATION.PARAMETER` -> value as it was typed."""
        return {name: held for name, held in self.optimization.items() if not isinstance(held, EmptyOption)}


def from_config(composed: Mapping[str, Any]) -> Settings:
    """Check a composed configuration of plain containers. ConfigError or UnknownName names the key that is wrong."""
    stray = set(composed) - set(Settings.model_fields)
    if stray:
        raise UnknownName("setting", min(stray), Settings.model_fields)
    if "model" not in composed:
        raise ConfigError("no model was named: add +model=NAME")
    try:
        return Settings.model_validate({"optimization": {}, "arm": {}} | dict(composed))
    except ValidationError as error:
        raise _explained(error, composed) from None


def refuse_unsafe(raw: Any, path: str = "") -> None:
    """Refuse keys that would import or call something, and interpolations that would resolve an environment variable
    into what is recorded. `raw` is the composed configuration before interpolation."""
    for dotted, key, value in _walk(raw, path):
        if key in FORBIDDEN_KEYS:
            raise ConfigError(f"'{dotted}' would have code named by the configuration called: names only, no {key}")
        if isinstance(value, str) and "${" in value and ":" in value:
            raise ConfigError(
                f"'{dotted}' holds a resolver ({value}): what it reads, a secret perhaps, would be recorded; "
                "write the value, or refer to another key as ${key}"
            )


def dotted_keys(tree: Any) -> tuple[str, ...]:
    return tuple(dotted for dotted, _, _ in _walk(tree, ""))


def _walk(tree: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    items: list[tuple[str, Any]] = []
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, list | tuple):
        items = [(str(index), value) for index, value in enumerate(tree)]
    for key, value in items:
        dotted = f"{path}.{key}" if path else key
        yield dotted, key, value
        yield from _walk(value, dotted)


def _explained(error: ValidationError, composed: Mapping[str, Any]) -> ConfigError | UnknownName:
    first = error.errors()[0]
    dotted = ".".join(_asked(first["loc"], composed, missing=first["type"] == "missing"))
    if first["type"] == "extra_forbidden":
        return UnknownName("setting", dotted, (set(dotted_keys(composed)) | set(Settings.model_fields)) - {dotted})
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "model_type":
        said = "has settings of its own: write one of them, as in timing.margin.cpu=0.02"
    found = "" if isinstance(first["input"], Mapping) else f", not {first['input']!r}"
    return ConfigError(f"setting '{dotted}': {said[:1].lower()}{said[1:]}{found}")


def _asked(location: tuple[str | int, ...], composed: Any, missing: bool) -> Iterator[str]:
    """Of where a value is wrong, or `missing`, what was asked under that name: the rest are variants and types."""
    for part in location:
        listed = isinstance(composed, list | tuple) and isinstance(part, int)
        if listed or (isinstance(composed, Mapping) and part in composed):
            composed = composed[part]
            yield str(part)
    if missing:
        yield str(location[-1])
