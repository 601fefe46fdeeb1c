"""A stack of optimizations: named, ordered by the model's menu, checked for conflicts and requirements. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.errors import UnknownName
from harness.spec.optimization import Menu


@dataclass(frozen=True)
class Stack:
    """`left_out`: what `full` holds and this machine cannot run, with reasons. `unable`: why what was asked for by
    name cannot run here. `wrong`: why it could run nowhere, a conflict or a missing requirement."""

    names: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    unable: str | None = None
    wrong: str | None = None


NONE, FULL = "none", "full"
FAMILIES = ("one_at_a_time", "cumulative", "leave_one_out")
"""Choices that stand for several stacks, computed from the model's menu."""
WILD = frozenset("*?[|!")


def glob_word(include: Sequence[str], exclude: Sequence[str]) -> str:
    """Return a glob as one word that `is_family` knows: `linear_*|rotary!linear_fp8`."""
    return "!".join(filter(None, ("|".join(include), "|".join(exclude))))


def is_family(name: str) -> bool:
    """Tell whether a name stands for several stacks."""
    return name in FAMILIES or not WILD.isdisjoint(name)


def family(name: str, menu: Menu, capabilities: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """The stacks of a family, in the menu's order: `one_at_a_time`, each alone with what it requires; `cumulative`, the
    full stack grown by one at a time; `leave_one_out`, the full stack less one at a time (and less what required it);
    of a glob, every optimization alone that it matches."""
    if name not in FAMILIES:
        return _matching(name, menu)
    left_out = _left_out(menu, capabilities)
    full = [item for item in menu.names() if item in menu.full and item not in left_out]
    if name == "one_at_a_time":
        return tuple(dict.fromkeys(_with_required(menu, item) for item in menu.names()))
    if name == "cumulative":
        return tuple(tuple(full[: count + 1]) for count in range(len(full)))
    return tuple(dict.fromkeys(_without(menu, full, item) for item in full))


def _matching(glob: str, menu: Menu) -> tuple[tuple[str, ...], ...]:
    include, exclude = (word.split("|") for word in glob.partition("!")[::2])
    found = [
        (name,)
        for name in menu.names()
        if any(fnmatchcase(name, one) for one in include) and not any(fnmatchcase(name, one) for one in exclude)
    ]
    if not found:
        raise UnknownName("optimization", glob, menu.names())
    return tuple(found)


def _with_required(menu: Menu, name: str) -> tuple[str, ...]:
    chosen, open_names = set[str](), [name]
    while open_names:
        item = menu[open_names.pop()]
        chosen.add(item.name)
        if item.requires and not chosen & set(item.requires):
            open_names.append(item.requires[0])
    return tuple(other for other in menu.names() if other in chosen)


def _without(menu: Menu, full: Sequence[str], name: str) -> tuple[str, ...]:
    kept: list[str] = []
    for other in full:
        requires = menu[other].requires
        if other != name and (not requires or set(requires) & set(kept)):
            kept.append(other)
    return tuple(kept)


def resolve(
    model: str, menu: Menu, asked: Sequence[str], capabilities: Collection[str], elsewhere: Collection[str] = ()
) -> Stack:
    """Expand `full` to what the machine can run, keep what was asked for by name, order both by the menu.

    A name that only other models of the plan offer (`elsewhere`) makes the stack unable, so that a sweep over models
    states it and goes on. Raises UnknownName for a name that nobody offers.
    """
    explicit = [name for name in asked if name != FULL]
    for name in explicit:
        if name not in menu.names() and name in elsewhere:
            return Stack(tuple(explicit), unable=f"{model} does not offer the optimization '{name}'")
        if name not in menu.names():
            raise UnknownName(f"optimization of {model}", name, (*menu.names(), FULL, NONE, *FAMILIES))
    reasons = _left_out(menu, capabilities) if FULL in asked else {}
    chosen = {*explicit, *(name for name in menu.full if FULL in asked and name not in reasons)}
    names = tuple(name for name in menu.names() if name in chosen)
    notes = tuple(f"{name} ({reason})" for name, reason in reasons.items() if name not in chosen)
    return Stack(names, notes, _unable(menu, names, capabilities), _wrong(model, menu, names))


def _left_out(menu: Menu, capabilities: Collection[str]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for name in (name for name in menu.names() if name in menu.full):
        lacking = sorted(set(menu[name].needs) - set(capabilities))
        orphaned = menu[name].requires and all(other in reasons for other in menu[name].requires)
        if lacking:
            reasons[name] = f"needs {', '.join(lacking)}"
        elif orphaned:
            reasons[name] = f"requires {menu[name].requires[0]}, left out too"
    return reasons


def _wrong(model: str, menu: Menu, names: Sequence[str]) -> str | None:
    for name in names:
        item = menu[name]
        clash = [other for other in names if other in item.conflicts or name in menu[other].conflicts]
        if clash:
            return (
                f"{model}: optimizations '{name}' and '{clash[0]}' conflict: both replace the same part, and only the "
                "last would be measured; ask for one of them"
            )
        if item.requires and not set(item.requires) & set(names):
            return (
                f"{model}: optimization '{name}' requires {' or '.join(item.requires)}, which the stack lacks: "
                f"ask for optimization=[{','.join((item.requires[0], *names))}]"
            )
    return None


def _unable(menu: Menu, names: Sequence[str], capabilities: Collection[str]) -> str | None:
    for name in names:
        lacking = sorted(set(menu[name].needs) - set(capabilities))
        if lacking:
            return f"optimization '{name}' needs {', '.join(lacking)}, which this hardware does not offer"
    return None
