"""Match the parameters that a run sets with the stacks that hold their optimizations. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import UnknownName, UserError
from harness.planning.stack import Stack
from harness.records.case import Case
from harness.spec.optimization import Menu
from harness.spec.parameter import Value, own_values


@dataclass(frozen=True)
class StackParameters:
    """What one stack is told."""

    values: dict[str, Value]
    """`OPTIMIZATION.PARAMETER` -> value, of those that differ from their defaults, in the menu's order."""
    taken: frozenset[str]
    """Those whose optimization the stack holds, at their defaults or not."""
    idle: Mapping[str, str]
    """Those whose optimization it does not hold -> why."""


def stack_parameters(
    model: str, menu: Menu, stack: Stack, asked: Mapping[str, object], elsewhere: Collection[str]
) -> StackParameters:
    """Check every parameter that was asked for against the model's menu, also where this stack has no use for it.

    Raise UnknownName for an optimization that neither this model nor another of the plan (`elsewhere`) offers, and
    UserError for a parameter that is not declared or not allowed.
    """
    owners = {key: key.partition(".")[0] for key in asked}
    for owner in owners.values():
        if owner not in menu.names() and owner not in elsewhere:
            raise UnknownName(f"optimization of {model}", owner, menu.names())
    values = {
        f"{item.name}.{name}": value
        for item in menu.items
        for name, value in item.checked(own_values(item.name, asked)).items()
        if item.name in stack.names
    }
    taken = frozenset(key for key, owner in owners.items() if owner in stack.names)
    return StackParameters(values, taken, {key: _why(owners[key], stack) for key in asked if key not in taken})


def idle_notes(planned: Sequence[tuple[Case, StackParameters]]) -> tuple[str, ...]:
    """Tell of each parameter that some stacks take how many of the others have no use for it.

    Raise UserError for one that no stack takes: what was asked for would not have been measured.
    """
    taken = frozenset[str]().union(*(told.taken for _, told in planned))
    idle = dict.fromkeys(key for _, told in planned for key in told.idle)
    for key in idle:
        if key not in taken:
            raise UserError(f"optimization.{key}: {next(told.idle[key] for _, told in planned if key in told.idle)}")
    stacks = {key: {case.optimizations for case, told in planned if key in told.idle} for key in idle}
    total = len({case.optimizations for case, _ in planned})
    return tuple(f"optimization.{key} has no part in {len(held)} of {total} stacks" for key, held in stacks.items())


def _why(owner: str, stack: Stack) -> str:
    left_out = next((said for said in stack.left_out if said.startswith(f"{owner} ")), None)
    reason = f": `full` leaves out {left_out} here" if left_out else ""
    return f"'{owner}' is not in the stack {'+'.join(stack.names) or 'none'}{reason}"
