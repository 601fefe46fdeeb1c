"""Whether a reference is still what it was before a candidate was built: its weights, its code, what it computes by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from harness.build.builder import held
from harness.build.contents import ContentHash, differing
from harness.build.process_state import changed, process_state
from harness.build.reference_code import code_of, foreign, replaced
from harness.errors import HarnessError

SETTINGS, WEIGHTS, CODE = "process settings", "reference weights", "reference code"
ASPECTS = (SETTINGS, WEIGHTS, CODE)


class ReferenceChanged(HarnessError):
    """A candidate that moved what it is held against: nothing measured beside it says anything."""


class ReferenceIntegrity:
    """Remembers a reference, and blames whoever was at work when it changed. `rounded` is a copy of it that shares all
    but rounded weights, or the reference itself. `started` is the state of the process before the code of the candidate
    was imported, as `process_state` reads it; by default that of now."""

    def __init__(
        self, reference: nn.Module, rounded: nn.Module | None = None, started: Mapping[str, str] | None = None
    ) -> None:
        self.reference, self.rounded = reference, rounded or reference
        self._hash = ContentHash()
        self._state = process_state()
        self._contents = self._hash.of_all(self._tensors())
        self._code = code_of(reference)
        self.found: dict[str, dict[str, str]] = {aspect: {} for aspect in ASPECTS}
        """Aspect -> what changed -> who was at work."""
        self._blame(SETTINGS, changed(started, self._state) if started is not None else [], "import of the model")
        self._blame(CODE, foreign(reference), "import of the model")

    def look(self, suspect: str) -> None:
        """Compare, and blame `suspect` for what has changed since the reference was remembered and has no blame yet."""
        self._blame(SETTINGS, changed(self._state, process_state()), suspect)
        self._blame(WEIGHTS, differing(self._contents, self._hash.of_all(self._tensors())), suspect)
        self._blame(CODE, replaced(self._code, code_of(self.reference)), suspect)

    def require(self) -> None:
        """Raise ReferenceChanged naming the first change and who is blamed for it."""
        for aspect, changes in self.found.items():
            for change, suspect in changes.items():
                raise ReferenceChanged(f"{suspect} changed {aspect}: {change}; the reference would no longer be one")

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from held(self.reference)
        yield from ((f"buffer {name}", buffer) for name, buffer in self.reference.named_buffers())
        known = {id(parameter) for parameter in self.reference.parameters()}
        named = self.rounded.named_parameters()
        yield from ((f"rounded {name}", each.data) for name, each in named if id(each) not in known)

    def _blame(self, aspect: str, changes: list[str], suspect: str) -> None:
        for change in changes:
            self.found[aspect].setdefault(change, suspect)
