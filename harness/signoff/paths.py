"""The paths that a proof must have gone, by what the stack holds; each names a part of the name of one that it went."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records.case import Case
from harness.records.checks import Parity

ALWAYS = ("chunked prefill", "left-padded batch", "one row alone", "one row decoded", "layout")
EAGER = ("decode without graph or compiler",)
PREFIXES = (
    "prefix hit against cold",
    "decode after a prefix hit",
    "rows that part inside a block",
    "later block at the beginning",
    "prefix after eviction",
    "prefix held while others are evicted",
)
PICTURES, OTHER_PICTURES = "image embeddings", "prefix of other images"
"""What is judged of a model that sees, and what its prefixes must not share."""
AGAIN = ("prompt again on a used cache",)
OF_OPTIMIZATION = {"cuda_graph": EAGER, "compile": EAGER, "prompt_graph": AGAIN, "prefix_caching": PREFIXES}


def missing(case: Case, parity: Parity) -> tuple[str, ...]:
    """What no path of the proof was, though this case has it."""
    gone = {check.subject for check in parity.checks if check.level == "path"}
    sees = any(check.subject == PICTURES for check in parity.checks)
    return tuple(path for path in _wanted(case, sees) if not any(path in subject for subject in gone))


def _wanted(case: Case, sees: bool) -> Iterator[str]:
    yield from ALWAYS
    for name, paths in OF_OPTIMIZATION.items():
        if name in case.optimizations:
            yield from paths
    if sees and "prefix_caching" in case.optimizations:
        yield OTHER_PICTURES
