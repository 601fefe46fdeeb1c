"""What the build of a record provides: as its receipts say, or by name where they do not."""

from __future__ import annotations

from collections.abc import Mapping

from harness.records.record import Record
from harness.spec.optimization import Capability

BY_NAME: Mapping[str, frozenset[Capability]] = {
    "cuda_graph": frozenset({"captured_step"}),
    "compile": frozenset({"captured_step"}),
    "prompt_graph": frozenset({"captured_prompt"}),
    "prefix_caching": frozenset({"prefix_cache"}),
    "tensor_parallel": frozenset({"ranks"}),
}
"""Of the optimizations that there were before schema version 6, whose receipts do not say what they provide."""


def provided(record: Record) -> frozenset[Capability]:
    """Say what the stack of a record's case provides; an optimization without a receipt is known by its name alone."""
    said = {note.optimization: note.provides for note in record.receipts}
    found: set[Capability] = set()
    for name in record.case.optimizations:
        stated = said.get(name)
        found.update(BY_NAME.get(name, ()) if stated is None else stated)
    return frozenset(found)
