"""What a model directory exports: a `ModelSpec`, a value made of functions.

The modules of this package and `harness.errors` are all that code under `models/` may import from the harness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.spec.anatomy import Anatomy
from harness.spec.hf_config import HFConfig
from harness.spec.kernel import Cost
from harness.spec.mutant import Mutant
from harness.spec.optimization import Menu
from harness.spec.parameter import Values
from harness.spec.runtime import AttentionInputs, CausalLM
from harness.spec.vision import Vision

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """A named intermediate inside a layer, in data-flow order. `ours` and `reference` are paths of modules of one layer
    whose output holds the values; `path:input` means the module's first input, `path[1]` the second item of a tuple,
    and `@query`, `@keys`, `@values` what attention is given (`ModelSpec.attending`). `op` is what a reader would call
    the computation."""

    name: str
    op: str
    ours: str
    reference: str


@dataclass(frozen=True)
class Attending:
    """Where a layer attends to its cache: what the stages `@query`, `@keys` and `@values` show."""

    module: str
    """Path of the module inside one layer."""
    inputs: Callable[..., AttentionInputs]
    """Called as the module is, before it runs."""


@dataclass(frozen=True)
class Routing:
    """Where a layer chooses its experts, as paths of modules inside one layer; a layer without them is dense."""

    ours: str
    """Gives (ids [N, k], weights [N, k])."""
    reference: str
    """Gives (logits [N, E], weights [N, k], ids [N, k])."""
    ranks: Callable[[nn.Module, Tensor], Tensor]
    """The reference module and its logits -> the scores [N, E] that it ranks experts by."""
    positions: Callable[..., Tensor]
    """Called as our layer is, before it runs: [B, T] int64, where each token stands in its row."""


@dataclass(frozen=True)
class Workload:
    """What a phase moves and computes, as the floor that a time is held against."""

    phase: Literal["prefill", "decode"]
    batch: int
    tokens: int
    """Query tokens per sequence in one call."""
    context_tokens: int
    """Keys that each query may see, its own included (for prefill: the prompt's length)."""
    experts: float | None = None
    """Distinct experts that the tokens of a call visit in a layer that chooses, on average; None where nobody counted:
    then those that uniform routing would touch, the most that it can be."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything the harness knows of a model."""

    name: str
    hf_id: str
    revision: str
    """Commit of the hub, 40 hex digits."""
    sizes: Mapping[str, HFConfig]
    """Size name -> the Hugging Face config of that variant, as `config.json` would hold it."""
    build: Callable[[HFConfig, torch.dtype, torch.device], CausalLM]
    """The eager build with unset parameters, a torch module; raises ConfigError on any value it does not implement."""
    reference: Callable[[HFConfig, torch.dtype, torch.device, Path | None], nn.Module]
    """The Hugging Face model in the target dtype: with its own random initialization, or read from a checkpoint."""
    rename: Callable[[str], str]
    """Hugging Face name of a parameter or persistent buffer -> ours."""
    perturb: Callable[[str], float]
    """The same name -> standard deviation of the noise added to its random initialization, so that no
    weight keeps a value (1 for norms, 0 for biases) that would hide a missing operation."""
    menu: Menu
    stages: tuple[Stage, ...]
    work: Callable[[HFConfig, torch.dtype, Workload], Cost]
    anatomy: Anatomy
    """What a weight recipe needs to know of the reference."""
    merge: Callable[[HFConfig, Iterable[tuple[str, Tensor]]], Iterable[tuple[str, Tensor]]] = lambda _, stream: stream
    """A checkpoint's stream of tensors -> the same with those put together that the model holds as one."""
    decoder: str = "model"
    """Path, in the reference, of what holds `embed_tokens`, `layers`, `norm` and `rotary_emb`."""
    vision: Vision | None = None
    """None for a model of text alone."""
    routing: Routing | None = None
    """None for a dense model."""
    attending: Attending | None = None
    """None where no stage shows what attention is given."""
    mutants: tuple[Mutant, ...] = ()
    """Faults that a build of this model can have."""

    def made_with(self, parameters: Values) -> ModelSpec:
        """Return the same model, its optimizations made with the parameters of a case."""
        return replace(self, menu=self.menu.made_with(parameters)) if parameters else self

    @property
    def checkpoint(self) -> str:
        """The published checkpoint that `sizes["full"]` is of: its name on the Hugging Face hub and its commit."""
        return f"{self.hf_id}@{self.revision[:8]}"
