"""The error tree. A `UserError` is one clear line and exit 2; anything else is a bug and shows a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Base of every error raised on purpose."""


class UserError(HarnessError):
    """What was asked for cannot be done; the message says what would have gone wrong and what to ask for instead."""


class UnknownName(UserError):
    """A name that is not on a list; the message gives the nearest one that is."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = [other for other in known if name and other.startswith(name)]
        close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.55)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} '{name}': {hint}")


class ConfigError(UserError):
    """A model config or setting with a value that this build does not implement; it names the field."""


class IndivisibleShares(ConfigError):
    """A model whose heads or channels cannot be shared out evenly among so many ranks; it gives their numbers."""


class WeightsError(UserError):
    """A checkpoint that cannot be loaded exactly: a tensor missing, unknown or mis-shaped, or an unsafe file."""


class InputError(UserError):
    """A prompt that the model cannot take: a token past its vocabulary, or images that do not fit their tokens."""


class CacheFull(UserError):
    """A sequence would outgrow the key-value cache that was reserved for it."""


class SharedSlots(UserError):
    """A call that would write where other sequences read."""


class RecordError(HarnessError):
    """A record that breaks an invariant: it must not be written, or cannot be trusted when read."""
