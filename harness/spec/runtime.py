"""Protocols of a built model: the methods that parity and timing call.

A build is a `torch.nn.Module` whose parameters and persistent buffers are those that `ModelSpec.rename` names, and a
`CausalLM`. Nothing else is asked of its inside: it may subclass `models.common.decoder.Decoder` or share no line with
it. `VisionLM` adds what a model that sees has to offer, `PrefixLM` what an optimization that provides `prefix_cache`
adds. B is the number of rows of a batch, T of tokens in a call, H the hidden size."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from harness.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.spec.model_inputs import Features, ModelInputs

OwnCache = Any
"""A cache that the same model made: each model declares its own class for it."""


class KVCache(Protocol):
    """The keys and values of the rows of one batch, all of one length."""

    @property
    def length(self) -> int:
        """Count the slots in use in every row, left padding among them."""

    @property
    def capacity(self) -> int:
        """Count the slots that a row can have."""

    def rewind(self, length: int) -> None:
        """Forget every slot at and past `length`; at 0 also what the cache was told of a prompt's images."""


class DecodeStep(Protocol):
    """One token a row."""

    def __call__(self, tokens: Tensor, cache: OwnCache, /) -> Tensor:
        """Append tokens [B, 1] int64 to what the cache holds and return logits [B, vocab] in the model's dtype, which
        the next call may overwrite. Raises CacheFull where no slot is left."""


class CausalLM(Protocol):
    """A decoder-only language model: five methods, its decoder layers and the length that it knows."""

    @property
    def layers(self) -> nn.ModuleList:
        """Hold the decoder layers in order, as many as the reference has; `Stage`, `Routing` and `Attending` name
        modules inside one of them. Each is called with the residual stream [B, T, H] first, or with what the last
        sub-layer adds to it (None at the first layer) and then the stream, and answers in the same way."""

    @property
    def max_positions(self) -> int:
        """Bound the tokens of a sequence."""

    @property
    def decode(self) -> DecodeStep:
        """Compute the next token of every row. The class's own method is the plain step: an optimization that provides
        `captured_step` sets another on the instance."""

    def __call__(self, tokens: Tensor, cache: OwnCache, keep: int = 0) -> Tensor:
        """Append tokens [B, T] int64 to what the cache holds and return logits [B, T, vocab] in the model's dtype, or
        those of the last `keep` tokens where keep > 0. Raises InputError for a token past the vocabulary and CacheFull
        where the tokens do not fit, both before the cache changes."""

    def new_cache(self, batch: int, capacity: int, left_padding: Sequence[int] | None = None) -> KVCache:
        """Make an empty cache with room for `capacity` slots a row. The first left_padding[b] tokens of row b are left
        padding, which no query sees. Raises ConfigError past `max_positions`."""

    def layer(self, index: int, hidden: Tensor, cache: OwnCache, /) -> Tensor:
        """Run layer `index` alone on the residual stream [B, T, H] in the model's dtype, at the start of an empty
        cache, and return the stream after it."""

    def rotary(self, positions: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return cos and sin [B, T, rotated channels], in the model's dtype, of positions [B, T] int64, or [axes, B, T]
        where the model sees."""


class PlacedCache(KVCache, Protocol):
    """A cache of a model that sees."""

    @property
    def offsets(self) -> Tensor:
        """Hold [B] integers: what a row's rotary positions are beyond its token numbers, once its images are passed."""


class VisionLM(CausalLM, Protocol):
    """A language model whose prompts may show images."""

    def new_cache(self, batch: int, capacity: int, left_padding: Sequence[int] | None = None) -> PlacedCache: ...

    def see(self, inputs: ModelInputs, /) -> Features:
        """Run the vision tower on all images of the batch. Raises InputError where there are none."""

    def place(self, cache: OwnCache, inputs: ModelInputs, features: Features | None, /) -> None:
        """Tell a cache where the tokens of a prompt stand and what its images show; `features` None tells the places
        alone. What the cache holds already is the prompt's beginning. Raises InputError where images and image tokens
        do not match."""

    def positions(self, cache: OwnCache, /) -> Tensor:
        """Return the positions [axes, B, T] int64 of the prompt that the cache was told of."""


class OpenedPrefix(NamedTuple):
    """A cache on a pool of shared prefixes."""

    cache: KVCache
    matched: int
    """Tokens of every row that the cache holds already; the model is to be called on the rest, which is never empty."""


class PrefixCache(Protocol):
    """A pool of pages in which sequences that begin alike share the pages of their beginning."""

    @property
    def page_tokens(self) -> int:
        """Count the slots of a page."""

    def resized(self, pages: int, page_tokens: int) -> PrefixCache:
        """Make an empty one for the same model, with a pool of its own of another size."""

    def symbols(self, tokens: Tensor, *, inputs: ModelInputs | None = None) -> Sequence[Sequence[Hashable]]:
        """Name each of tokens [B, T] by what makes two prefixes equal. `inputs` is the prompt with images that they
        belong to."""

    def open(
        self,
        tokens: Tensor,
        capacity: int,
        left_padding: Sequence[int] | None = None,
        *,
        inputs: ModelInputs | None = None,
    ) -> OpenedPrefix:
        """Make a cache for the rows of tokens [B, T] int64, with room for `capacity` slots a row, `left_padding` as in
        `CausalLM.new_cache`. Raises CacheFull, with nothing changed, where the pool has too few pages left."""

    def close(self, cache: OwnCache, generated: Tensor | None = None) -> None:
        """Give the pages back and keep what was computed for later prompts: the prompt, as far as it was not rewound,
        and the tokens generated [B, N] that were fed after that, where they are given. The cache must not be used
        afterwards."""

    def blocks(self) -> Mapping[Hashable, Tensor]:
        """Copy the keys and values of every block that is kept, in all layers; the key of a block stays the same for as
        long as it is kept."""


class PrefixLM(CausalLM, Protocol):
    """A model with an optimization that provides `prefix_cache`."""

    @property
    def prefixes(self) -> PrefixCache: ...


@dataclass(frozen=True)
class AttentionInputs:
    """What the attention of one layer is given."""

    query: Tensor
    """[B, T, heads, head_dim]"""
    keys: Tensor
    """[B, slots, kv_heads, head_dim]: the cache as it then stands."""
    values: Tensor
    """As keys."""


class HuggingFaceLM(Protocol):
    """What is asked of a reference: a transformers causal LM, which is a torch module."""

    @property
    def config(self) -> Any:
        """Hold a transformers PreTrainedConfig."""

    @property
    def generation_config(self) -> Any:
        """Hold a transformers GenerationConfig, whose fields may be set."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def lm_head(self) -> nn.Linear: ...

    def __call__(self, **inputs: Any) -> Any:
        """Run on `input_ids` [B, T] int64 and what else transformers takes; `logits` [B, T, vocab] come back."""

    def generate(self, tokens: Tensor, /, **options: Any) -> Any:
        """Generate behind tokens [B, T] int64 as transformers does."""


def require_causal_lm(model: CausalLM) -> None:
    """Raise ConfigError naming what a build lacks that no type checker has seen."""
    _offering(model, ("layers", "max_positions", "new_cache", "decode", "layer", "rotary"))


def plain_step(model: CausalLM) -> DecodeStep:
    """Return the step of the model's class, whatever an optimization has set on the instance."""
    step: Any = type(model).decode
    return cast(DecodeStep, partial(step, model))


def hugging_face_lm(model: nn.Module) -> HuggingFaceLM:
    """Type what `ModelSpec.reference` makes."""
    return cast(HuggingFaceLM, model)


def module_of(model: CausalLM | HuggingFaceLM) -> nn.Module:
    """Type a model as the torch module that it is."""
    return cast("nn.Module", model)


def vision_lm(model: CausalLM) -> VisionLM:
    """Type a model as one that sees. ConfigError names what it lacks."""
    return cast(VisionLM, _offering(model, ("see", "place", "positions")))


def prefix_lm(model: CausalLM) -> PrefixLM:
    """Type a model as one with a pool of shared prefixes. ConfigError where it has none."""
    return cast(PrefixLM, _offering(model, ("prefixes",)))


def _offering(model: object, names: Sequence[str]) -> object:
    for name in names:
        if not hasattr(model, name):
            raise ConfigError(
                f"the build {type(model).__name__} has no `{name}`, which harness.spec.runtime asks of it: "
                "without it nothing can be judged or timed"
            )
    return model
