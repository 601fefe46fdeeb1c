"""Weights in, optimizations applied, receipts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.build.checkpoint import check, load, read_config, read_safetensors, read_slices
from harness.build.images import Pictures
from harness.build.inputs import generator
from harness.build.recipes.weight_recipes import apply_recipe
from harness.build.tokenizer import Text
from harness.errors import ConfigError, HarnessError, UnknownName, WeightsError
from harness.records.weight_recipe import WeightRecipe
from harness.spec.hf_config import HFConfig
from harness.spec.model import ModelSpec
from harness.spec.optimization import Capability, Receipt, Target
from harness.spec.runtime import CausalLM, module_of, require_causal_lm


class NothingTouched(HarnessError):
    """An optimization that changed nothing: its speed would be the eager build's."""


@dataclass(frozen=True)
class Source:
    """Where weights come from: a seed, or a checkpoint directory."""

    config: HFConfig
    seed: int
    directory: Path | None
    recipe: WeightRecipe = "random"
    """What becomes of the weights that a seed gives."""

    @classmethod
    def of(cls, spec: ModelSpec, size: str, seed: int, weights: str | None) -> Source:
        if weights is not None:
            return cls(read_config(Path(weights)), seed, Path(weights))
        if size not in spec.sizes:
            raise UnknownName(f"size of {spec.name}", size, spec.sizes)
        return cls(spec.sizes[size], seed, None)

    @cached_property
    def text(self) -> Text | None:
        """The checkpoint's tokenizer, where it has one; WeightsError where that cannot be used."""
        return None if self.directory is None else Text.of(self.directory, self.config)

    @cached_property
    def pictures(self) -> Pictures | None:
        """The checkpoint's image processor, where it has one; WeightsError where that cannot be used."""
        return None if self.directory is None else Pictures.of(self.directory, self.config)


@dataclass(frozen=True)
class BuildConfig:
    """What is built: a model, from which weights, with which optimizations, and where it runs."""

    spec: ModelSpec
    source: Source
    stack: tuple[str, ...]
    """Names of the optimizations, in the order they are applied."""
    target: Target

    @property
    def provides(self) -> frozenset[Capability]:
        return self.spec.menu.provides(self.stack)


class Built(NamedTuple):
    """A build, and what each optimization says that it changed."""

    model: CausalLM
    receipts: tuple[Receipt, ...]


def reference(spec: ModelSpec, source: Source, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """The Hugging Face model. Random weights are drawn in `dtype` from the seed and then perturbed, so that no norm is
    all ones and no bias all zeros; then the source's recipe is applied."""
    torch.manual_seed(source.seed)
    model = spec.reference(source.config, dtype, device, source.directory)
    if source.directory is None:
        for name, tensor in held(model):
            if deviation := spec.perturb(name):
                noise = torch.randn(tensor.shape, generator=generator(source.seed, name))
                tensor.add_(noise.to(device=device, dtype=tensor.dtype), alpha=deviation)
        apply_recipe(model, spec, source.recipe, source.seed)
    return model


def candidate(config: BuildConfig, plain: nn.Module, look: Callable[[str], None] = lambda _: None) -> Built:
    """Our model with the stack applied. It shares the memory of the reference's random weights, which
    `ReferenceIntegrity` watches; a checkpoint is read again through our own rename table. `look` is told who was at
    work after each step. ConfigError where the build is no CausalLM."""
    spec, source, stack, target = config.spec, config.source, config.stack, config.target
    cuts = [cut for name in stack if (cut := spec.menu[name].shard)]
    model = spec.build(source.config, target.dtype, torch.device("meta") if cuts else target.device)
    require_causal_lm(model)
    for cut in cuts:
        cut(model, target)
    load(module_of(model), weights(spec, source, plain, target.device, sliced=bool(cuts)), spec.rename)
    look("the eager build")
    return Built(model, optimize(spec, model, stack, target, look))


def check_weights(spec: ModelSpec, directory: Path) -> None:
    """Raises WeightsError or ConfigError naming what is wrong with a checkpoint, from its config, headers, tokenizer
    and image processor alone, and which checkpoint the model was written for."""
    config = read_config(directory)
    try:
        model = spec.build(config, torch.float32, torch.device("meta"))
        check(module_of(model), directory, spec.rename, partial(spec.merge, config))
    except (ConfigError, WeightsError) as error:
        raise type(error)(f"{error}; {spec.name} was written for {spec.checkpoint}") from None
    Text.of(directory, config)
    Pictures.of(directory, config)


def weights(
    spec: ModelSpec, source: Source, plain: nn.Module, device: torch.device, sliced: bool
) -> Iterable[tuple[str, Any]]:
    """Tensors by their Hugging Face names. `sliced` leaves those of a checkpoint in their files until they are cut."""
    if source.directory is None:
        return held(plain)
    read: Callable[..., Iterable[tuple[str, Any]]] = read_slices if sliced else read_safetensors
    return spec.merge(source.config, read(source.directory, device))


def held(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What a checkpoint of `model` would hold, tied tensors once: its parameters, and the buffers that persist."""
    yield from ((name, parameter.data) for name, parameter in model.named_parameters())
    kept = model.state_dict().keys()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in kept)


def optimize(
    spec: ModelSpec, model: CausalLM, stack: Iterable[str], target: Target, look: Callable[[str], None] = lambda _: None
) -> tuple[Receipt, ...]:
    """Apply each optimization in order; one that touches nothing raises NothingTouched."""
    receipts = []
    for name in stack:
        receipt = spec.menu[name].apply(model, target)
        if not receipt.touched:
            raise NothingTouched(f"optimization '{name}' touched nothing in {spec.name}: its figures would be a lie")
        look(f"optimization '{name}'")
        receipts.append(receipt)
    return tuple(receipts)
