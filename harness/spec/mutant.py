"""A fault planted on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mutant:
    """A fault planted on purpose, which the gate has to see: how a mechanism proves that its judge can fail.

    A kernel's mutants take its `launch` and return a faulty one, a rounding scheme's take it and return a faulty one. A
    model's take a built model that is theirs to change, whose parameters are shared with the right one and must be
    replaced, not written to; they return the dotted paths that they touched, none where this build has no place for the
    fault. A mechanism declares its own in a line each and a model lists them:
    `mutants=DECODER_MUTANTS + ROUTER_MUTANTS`. An optimization declares those that only it brings.
    """

    name: str
    kind: str
    """What family of bug this is: `scale`, `mask`, `cache`, ..."""
    apply: Callable[[Any], Any]
    equivalent: str | None = None
    """Why nobody can tell it from the right thing; this is verified, not believed. None for a real fault."""
