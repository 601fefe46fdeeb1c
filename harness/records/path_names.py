"""The execution paths of a proof: the names that records hold, and what a build must have for each."""

from __future__ import annotations

from enum import StrEnum

from harness.spec.optimization import Capability

STATED = 6
"""Schema version from which on a record that lacks a path of its build was not proven whole."""


class ExecutionPath(StrEnum):
    """A way through a model to the same logits. The value is the subject of its checks, or a part of it."""

    needs: frozenset[Capability]
    """What the stack provides, all of it, where there is this path."""
    images: bool
    """Whether only a model that sees has it."""
    since: int
    """Schema version of the first records that all hold it."""

    def __new__(
        cls, text: str, needs: frozenset[Capability] = frozenset(), images: bool = False, since: int = 1
    ) -> ExecutionPath:
        made = str.__new__(cls, text)
        made._value_ = text
        made.needs, made.images, made.since = needs, images, since
        return made

    CHUNKED_PREFILL = "chunked prefill"
    LEFT_PADDED_BATCH = "left-padded batch"
    ROW_ALONE = "one row alone"
    ROW_DECODED = "one row decoded"
    """`... alone`, or `... beside its copy` where the proof has one row."""
    CACHE_LAYOUT = "layout"
    """`NAME layout`, of every layout that the stack does not have."""
    PLAIN_STEP = "decode without graph or compiler", frozenset({"captured_step"})

    CALL_ORDERS = "orders of calls", frozenset[Capability](), False, 7

    PROMPT_AGAIN = "prompt again on a used cache", frozenset({"captured_prompt"})
    PROMPT_AGAIN_SHARED = (
        "prompt again on a shared prefix",
        frozenset({"captured_prompt", "prefix_cache"}),
        False,
        STATED,
    )

    PREFIX_HIT = "prefix hit against cold", frozenset({"prefix_cache"})
    PREFIX_ABANDONED = "prefix of a prompt closed before its end", frozenset({"prefix_cache"}), False, STATED
    PREFIX_DECODED = "decode after a prefix hit", frozenset({"prefix_cache"})
    PREFIX_PARTED = "rows that part inside a block", frozenset({"prefix_cache"})
    PREFIX_MOVED = "later block at the beginning", frozenset({"prefix_cache"})
    PREFIX_EVICTED = "prefix after eviction", frozenset({"prefix_cache"})
    PREFIX_HELD = "prefix held while others are evicted", frozenset({"prefix_cache"})
    PREFIX_PADDED = "left-padded prompt", frozenset({"prefix_cache"}), False, STATED
    PREFIX_UNPADDED = "prompt where a padded one was", frozenset({"prefix_cache"}), False, STATED
    PREFIX_HIT_PADDED = "left-padded prefix hit", frozenset({"prefix_cache"}), False, STATED
    PREFIX_LIKE_PADDING = "text like padding", frozenset({"prefix_cache"}), False, STATED
    PREFIX_OTHER_IMAGES = "prefix of other images", frozenset({"prefix_cache"}), True
    PREFIX_NEAR_IMAGE = "image that differs in its last value", frozenset({"prefix_cache"}), True, STATED
    PREFIX_AFTER_IMAGES = "text after images", frozenset({"prefix_cache"}), True, STATED
