"""What a timed phase depends on: the device alone where a captured graph is replayed, else the host as well."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from harness.records.provided import provided
from harness.records.record import Environment, Phase, Record

MOST_REPLAYED_TOKENS = 4096
"""Of a prompt in all rows, past which `prompt_graph` replays nothing unless its parameter says otherwise."""


def replayed(record: Record, phase: Phase) -> bool:
    """Whether the candidate's timed calls of the phase replay a captured graph, so that the host launches one thing.

    Prompts with images, behind a shared prefix, or longer than are captured are launched by the host.
    """
    if record.case.on_cpu:
        return False
    if phase == "decode":
        return "captured_step" in provided(record)
    asked = record.case.workload
    most = record.case.parameters.get("prompt_graph.max_tokens", MOST_REPLAYED_TOKENS)
    plain = not asked.images and not asked.shared_prefix_tokens
    short = isinstance(most, int) and asked.batch * asked.prompt_tokens <= most
    return "captured_prompt" in provided(record) and plain and short


def machine(record: Record, phase: Phase) -> str | None:
    """The fingerprint that a time of the phase may be compared by; None for a record without its environment."""
    found = record.environment
    if found is None:
        return None
    return found.device_fingerprint() if replayed(record, phase) else found.fingerprint()


def differences(base: Record, head: Record, phase: Phase) -> tuple[str, ...]:
    """Names of what differs between the machines of two records and moves a time of the phase."""
    if base.environment is None or head.environment is None:
        return ("environment",)
    both = replayed(base, phase) and replayed(head, phase)
    return tuple(dict.fromkeys(chain(*_differing(base.environment, head.environment, device_alone=both))))


def _differing(base: Environment, head: Environment, device_alone: bool) -> Iterator[tuple[str, ...]]:
    yield head.device_differences(base)
    if not device_alone:
        yield head.host_differences(base)
