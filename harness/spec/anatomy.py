"""Which part of the reference does what: what a weight recipe needs to know of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Anatomy:
    """Paths inside one layer of the reference. A path may lead nowhere in some layers, a dense layer's have no experts,
    but not in all of them. Routers are named by `Routing`."""

    query: str
    """A linear module whose rows are the channels of one head after another's; so is `key`."""
    key: str
    query_norm: str | None
    """A norm of the channels of a head; None where queries are not normed, and so of `key_norm`."""
    key_norm: str | None
    attention_norm: str
    """What norms the residual stream [B, T, H] for attention."""
    feed_forward_norm: str
    writes: tuple[str, ...]
    """Parameters [..., H, K] whose product is added to the residual stream."""
    image_writes: str | None = None
    """Path in the whole reference, with `*` for any part of it, of the linear modules with a bias whose output takes
    the place of embeddings; None where there are none."""
    image_adds: str | None = None
    """The same of those whose output is added to the residual stream behind a layer."""
