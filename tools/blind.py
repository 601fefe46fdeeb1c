"""The tables of what the gate made of faults by somebody who had not read it: by round and kind, and each by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.records.blind_corpus import CORPUS, Round, read_corpus
from harness.records.blind_fault import KINDS, BlindResult, Kind, Tally, first, last
from tools.repository import ROOT, Repository, markdown_table


def tables(repository: Repository) -> str:
    """Return the two tables of every round on every kind of machine that judged it, the newest round first."""
    judged = [(each, machine) for each in reversed(read_corpus(CORPUS)) for machine in each.machines()]
    return "\n".join(_tables(each, machine) for each, machine in judged)


def _tables(each: Round, machine: str) -> str:
    begin, now = first(each.on(machine)), last(each.on(machine))
    at = ", ".join(f"`{commit[:8]}`" for commit in dict.fromkeys(result.commit for result in begin.values()))
    folder = (CORPUS / f"round-{each.number}").relative_to(ROOT).as_posix()
    kinds = [kind for kind in KINDS if any(planted.fault.kind == kind for planted in each.faults)]
    rows = [_rate(kind.replace("_", " "), _names(each, kind), begin, now) for kind in kinds]
    rows.append(_rate("**all**", [planted.name for planted in each.faults], begin, now))
    where = f"[faults]({folder}), [results]({folder}/results.jsonl)"
    head = f"Round {each.number} on {machine}, first judged at {at} ({where}):"
    by_kind = markdown_table(("kind", "faults", "refused when they came", "refused now"), rows)
    return f"{head}\n\n{by_kind}\n{_by_name(each, begin, now)}"


def _names(each: Round, kind: Kind) -> list[str]:
    return [planted.name for planted in each.faults if planted.fault.kind == kind]


def _rate(label: str, names: Sequence[str], begin: dict[str, BlindResult], now: dict[str, BlindResult]) -> list[str]:
    def rate(held: dict[str, BlindResult]) -> str:
        return Tally.of(_held(names, held)).words() if any(name in held for name in names) else "not judged"

    return [label, str(len(names)), rate(begin), rate(now)]


def _held(names: Iterable[str], held: dict[str, BlindResult]) -> list[BlindResult]:
    return [held[name] for name in names if name in held]


def _by_name(each: Round, begin: dict[str, BlindResult], now: dict[str, BlindResult]) -> str:
    rows = [
        [
            planted.name.replace("_", " "),
            f"`{planted.fault.model}`",
            planted.fault.visible,
            _end(begin.get(planted.name)),
            _end(now.get(planted.name)),
        ]
        for planted in each.faults
    ]
    return markdown_table(("fault", "model", "where a user sees it", "when it came", "now"), rows)


def _end(result: BlindResult | None) -> str:
    if result is None:
        return "not judged"
    if result.end != "refused":
        return result.end
    return f"refused by {result.level}: {result.place}"
