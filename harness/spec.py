"""What a model directory exports: a `ModelSpec`, a value made of functions.

This module and `harness.errors` are all that code under `models/` may import from the harness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Numerics = Literal["exact", "reordered", "near_lossless", "four_bit"]
KernelMode = Literal["compiled", "interpreted", "none"]
HFConfig = Mapping[str, Any]
Grid = tuple[int, int, int]
"""Frames, rows and columns of an image in patches."""


@dataclass(frozen=True)
class Target:
    """Where a build runs. `kernels` says what a Triton launch means there: compiled for the GPU, interpreted on the
    CPU (right, never fast), or not available in this process."""

    device: torch.device
    dtype: torch.dtype
    kernels: KernelMode
    rank: int = 0
    """This process among `world` that run one model together."""
    world: int = 1


@dataclass(frozen=True)
class Receipt:
    """What an optimization changed: the dotted paths of the modules it replaced. Touching nothing is an error."""

    optimization: str
    touched: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """The least work of one call: device memory traffic in bytes (each input read once, each output written once)
    and floating-point operations."""

    bytes: int
    flops: int


@dataclass(frozen=True)
class OpCase:
    """One entry of a kernel's input menu: keyword arguments for both the kernel and its eager twin."""

    name: str
    inputs: Mapping[str, Any]


class OpMenu(Protocol):
    """Yields input cases, smallest first. `generator` makes them reproducible and lives on `device`."""

    def __call__(self, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]: ...


@dataclass(frozen=True)
class Compilation:
    """One ahead-of-time compilation of a Triton function: argument types by name (`"*bf16"`, `"i32"`, `"fp32"`) and
    the values of its constexpr arguments."""

    function: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 3


@dataclass(frozen=True)
class Mutant:
    """A fault planted on purpose, which the gate has to see: how a mechanism proves that its judge can fail.

    A kernel's mutants take its `launch` and return a faulty one. A model's take a built model that is theirs to change,
    whose parameters are shared with the right one and must be replaced, not written to; they return the dotted paths
    that they touched, none where this build has no place for the fault. A mechanism declares its own in a line each and
    a model lists them: `mutants=DECODER_MUTANTS + ROUTER_MUTANTS`. An optimization declares those that only it brings.
    """

    name: str
    kind: str
    """What family of bug this is: `scale`, `mask`, `cache`, ..."""
    apply: Callable[[Any], Any]
    equivalent: str | None = None
    """Why nobody can tell it from the right thing; this is verified, not believed. None for a real fault."""


@dataclass(frozen=True)
class Kernel:
    """A fast function beside its eager twin. Both take the same keyword arguments and return a mapping from output
    name to tensor; an argument listed in `mutates` is written in place and returned under its own name."""

    name: str
    launch: Callable[..., Mapping[str, Tensor]]
    twin: Callable[..., Mapping[str, Tensor]]
    menu: OpMenu
    cost: Callable[..., Cost]
    compilations: Callable[[torch.dtype], Sequence[Compilation]]
    mutates: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    """Outputs that only move bits: judged bit for bit."""
    bench: Callable[[torch.dtype, torch.device, torch.Generator], Iterator[OpCase]] | None = None
    """Real shapes to time on a device; None when the kernel has no speed of its own."""
    mutants: tuple[Mutant, ...] = ()
    """Faults of this kind of kernel, beside those that are planted in every kernel."""
    dtypes: tuple[torch.dtype, ...] | None = None
    """Element types that it computes; None is all of them."""
    batch_invariant: tuple[str, ...] = ()
    """Inputs whose first axis is the batch, of a kernel that gives a row the same bits whatever rows stand beside it;
    none where it promises nothing. Judged on every new output whose first axis is as long."""
    inapplicable: Mapping[str, str] = field(default_factory=dict)
    """Items of the fixed menu (`harness.parity.op.ITEMS`) that its contract does not admit, each with the reason."""
    far: OpMenu | None = None
    """Cases whose offsets pass 2^31 elements, which only a device has the memory for."""
    launches: Callable[[], int] | None = None
    """How often this process has launched it, for a kernel that is not a Triton function and cannot be watched."""

    def computes(self, dtype: torch.dtype) -> bool:
        return self.dtypes is None or dtype in self.dtypes


@dataclass(frozen=True)
class Rounding:
    """What a lossy optimization makes of a parameter, given its name in our build and its value."""

    weight: Callable[[str, Tensor], Tensor]
    """The value that the changed build computes with, in the same dtype; the very tensor where it is left alone."""
    held_bytes: Callable[[str, Tensor], int]
    """What the changed build holds in its place, in bytes."""


@dataclass(frozen=True)
class Optimization:
    """A named change to a model's eager build.

    `apply` swaps modules on the instance it is given and returns the receipt; it must raise rather than do nothing.
    """

    name: str
    summary: str
    numerics: Numerics
    apply: Callable[[nn.Module, Target], Receipt]
    kernels: tuple[Kernel, ...] = ()
    requires: tuple[str, ...] = ()
    """At least one of these must stand before it in the same stack."""
    conflicts: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Capabilities of the machine: `cuda`, `clusters` (a GPU with thread block clusters), `triton` (compiled or
    interpreted), `c++`, `nvcc` (a compiler of CUDA C++), `ranks` (several devices, or several processes on a CPU)."""
    shard: Callable[[nn.Module, Target], None] | None = None
    """For a build that several processes hold together: takes it on the meta device, before weights are read, and gives
    every parameter memory on the target for the part that this rank keeps. `apply` follows once they are read."""
    rounding: Rounding | None = None
    """For `near_lossless` and `four_bit`: the build is held against the reference with its weights so rounded."""
    mutants: tuple[Mutant, ...] = ()
    """Faults of a model that only this optimization can have."""


@dataclass(frozen=True)
class Stage:
    """A named intermediate inside a layer, in data-flow order. `ours` and `reference` are paths of modules of one layer
    whose output holds the values; `path:input` means the module's first input, `path[1]` the second item of a tuple,
    and `@query`, `@keys`, `@values` what attention is given. `op` is what a reader would call the computation."""

    name: str
    op: str
    ours: str
    reference: str


@dataclass(frozen=True)
class ModelInputs:
    """One batch of prompts: tokens [B, T] int64 and, for a model that sees, the images of every row."""

    tokens: Tensor
    pixels: Tensor | None = None
    """Patch rows [patches, channels * frames * height * width] of all images, row after row; None without images."""
    grids: tuple[tuple[Grid, ...], ...] = ()
    """One tuple of grids per row of the batch; empty for a model of text alone."""
    image_token: int | None = None
    """The token that stands where an image's features go; None for a model of text alone."""

    reserved: tuple[int, ...] = ()
    """Tokens that stand for images and the like, which a greedy choice must not make: no forward pass takes them back
    as text."""

    def shows(self) -> Tensor:
        """[B, T] bool: where an image stands."""
        return self.tokens.eq(-1 if self.image_token is None else self.image_token)

    def continued(self, tokens: Tensor) -> ModelInputs:
        """The same images in other tokens: longer, shorter or padded."""
        return replace(self, tokens=tokens)

    def row(self, index: int) -> ModelInputs:
        """Row `index` as a batch of one."""
        tokens = self.tokens[index : index + 1]
        if self.pixels is None:
            return replace(self, tokens=tokens, grids=self.grids[index : index + 1])
        ends = list(accumulate(sum(t * h * w for t, h, w in row) for row in self.grids))
        first = ends[index - 1] if index else 0
        pixels = self.pixels[first : ends[index]] if ends[index] > first else None
        return replace(self, tokens=tokens, pixels=pixels, grids=(self.grids[index],))

    def twice(self) -> ModelInputs:
        """Every row again, after all of them."""
        pixels = None if self.pixels is None else self.pixels.tile(2, 1)
        return replace(self, tokens=self.tokens.tile(2, 1), pixels=pixels, grids=self.grids * 2)

    def first(self, rows: int) -> ModelInputs:
        """The first `rows` rows."""
        tokens, grids = self.tokens[:rows], self.grids[:rows]
        if self.pixels is None:
            return replace(self, tokens=tokens, grids=grids)
        patches = sum(t * h * w for row in grids for t, h, w in row)
        return replace(self, tokens=tokens, pixels=self.pixels[:patches] if patches else None, grids=grids)

    def to(self, device: torch.device, dtype: torch.dtype) -> ModelInputs:
        """Tokens on `device`; pixels there too, rounded to `dtype`."""
        pixels = None if self.pixels is None else self.pixels.to(device=device, dtype=dtype)
        return replace(self, tokens=self.tokens.to(device), pixels=pixels)

    def overwrite(self, other: ModelInputs) -> None:
        """Another batch of the same layout into this one's memory."""
        self.tokens.copy_(other.tokens)
        if self.pixels is not None and other.pixels is not None:
            self.pixels.copy_(other.pixels)

    def keywords(self) -> dict[str, Tensor]:
        """What Hugging Face's forward takes beside the tokens: pixel_values, image_grid_thw [images, 3] and
        mm_token_type_ids [B, T]; nothing for text."""
        if self.pixels is None:
            return {}
        import torch

        grids = torch.tensor([grid for row in self.grids for grid in row], device=self.tokens.device)
        return {"pixel_values": self.pixels, "image_grid_thw": grids, "mm_token_type_ids": self.shows().int()}


@dataclass(frozen=True)
class Features:
    """What a vision tower makes of a batch's images: one row per image token, in the tokens' order."""

    embeddings: Tensor
    """[image tokens, H]: they stand in the place of the tokens' embeddings."""
    deep: tuple[Tensor, ...] = ()
    """Each [image tokens, H]: number i is added to the hidden states after decoder layer i."""


@dataclass(frozen=True)
class Part:
    """A module of the vision tower, judged alone on the reference's own input to it."""

    name: str
    op: str
    reference: str
    """Its path in the reference's tower, or `path:input` for all that comes before that module."""
    ours: Callable[[Any, ModelInputs, Tensor], Tensor]
    """Our model, the prompt and the part's input -> its output."""
    residual: bool = False
    """Whether the part adds to its input: then what it added is judged."""


@dataclass(frozen=True)
class Vision:
    """How a model that sees is fed and judged. Its build has two more methods: `see(inputs) -> Features`, and
    `place(cache, inputs, features)`, which tells a cache where the prompt's tokens stand and what they see."""

    inputs: Callable[[HFConfig, int, Sequence[int], torch.Generator], ModelInputs]
    """(config, tokens, images of each row, generator) -> a batch on the CPU. The layout, where images stand and how
    large they are, follows from the first three alone."""
    tower: str
    """Path of the vision tower in the reference."""
    features: Callable[[nn.Module, ModelInputs], Features]
    """The reference's tower, in any dtype, on the images of a batch."""
    positions: Callable[[nn.Module, ModelInputs], tuple[Tensor, Tensor]]
    """The reference model's rotary positions [axes, B, T] and [B] what decoding adds to them."""
    parts: Callable[[HFConfig], tuple[Part, ...]]


@dataclass(frozen=True)
class Routing:
    """Where a layer chooses its experts, as paths of modules inside one layer; a layer without them is dense."""

    ours: str
    """Gives (ids [N, k], weights [N, k])."""
    reference: str
    """Gives (logits [N, E], weights [N, k], ids [N, k])."""
    ranks: Callable[[nn.Module, Tensor], Tensor]
    """The reference module and its logits -> the scores [N, E] that it ranks experts by."""


@dataclass(frozen=True)
class Workload:
    """What a phase moves and computes, as the floor that a time is held against."""

    phase: Literal["prefill", "decode"]
    batch: int
    tokens: int
    """Query tokens per sequence in one call."""
    context_tokens: int
    """Keys that each query may see, its own included (for prefill: the prompt's length)."""


@dataclass(frozen=True)
class Menu:
    """The optimizations of a model and the order `full` stacks them in."""

    items: tuple[Optimization, ...]
    full: tuple[str, ...]

    def __getitem__(self, name: str) -> Optimization:
        return next(item for item in self.items if item.name == name)

    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.items)


@dataclass(frozen=True)
class ModelSpec:
    """Everything the harness knows of a model."""

    name: str
    hf_id: str
    revision: str
    sizes: Mapping[str, HFConfig]
    """Size name -> the Hugging Face config of that variant, as `config.json` would hold it."""
    build: Callable[[HFConfig, torch.dtype, torch.device], nn.Module]
    """The eager build with unset parameters; raises ConfigError on any value it does not implement."""
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
    merge: Callable[[HFConfig, Iterable[tuple[str, Tensor]]], Iterable[tuple[str, Tensor]]] = lambda _, stream: stream
    """A checkpoint's stream of tensors -> the same with those put together that the model holds as one."""
    decoder: str = "model"
    """Path, in the reference, of what holds `embed_tokens`, `layers`, `norm` and `rotary_emb`."""
    vision: Vision | None = None
    """None for a model of text alone."""
    routing: Routing | None = None
    """None for a dense model."""
    mutants: tuple[Mutant, ...] = ()
    """Faults that a build of this model can have."""
    notes: tuple[str, ...] = field(default=())
