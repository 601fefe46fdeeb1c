"""What became of blind faults: a table on the terminal, and the sentences of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from rich import box
from rich.table import Table

from harness.records.blind_corpus import Planted, Round
from harness.records.blind_fault import BlindResult, Tally, first, last
from harness.report.console import clean, terminal


def print_results(results: Sequence[tuple[Planted, BlindResult]], stream: TextIO) -> None:
    """A row a fault, and how many of each round were refused."""
    style = box.ROUNDED if stream.isatty() else box.ASCII2
    table = Table("round", "fault", "model", "kind", "end", "level", "why", box=style, header_style="bold")
    for planted, result in results:
        fault = planted.fault
        cells = (str(planted.round), planted.name, fault.model, fault.kind, result.end, result.level or "")
        table.add_row(*map(clean, (*cells, told(result))))
    terminal(stream).print(table)
    for number in dict.fromkeys(planted.round for planted, _ in results):
        mine = [result for planted, result in results if planted.round == number]
        print(f"round {number}: {Tally.of(mine).words('refused')}", file=stream)
    for planted, result in results:
        if result.machine in planted.fault.must_refuse and result.end != "refused":
            print(f"NOT REFUSED: {planted.name}: {planted.fault.why}", file=stream)


def told(result: BlindResult) -> str:
    """The first check that broke, how many more did, and where the build goes wrong; or why nothing was judged."""
    if result.end != "refused":
        return result.why
    more = f" and {result.broken - 1:,} more" if result.broken > 1 else ""
    return f"{result.check}{more}; {result.place}"


def sentences(rounds: Sequence[Round], machine: str) -> Iterator[str]:
    """Of each round that was judged on this kind of device."""
    for each in rounds:
        if results := each.on(machine):
            begin, now = Tally.of(first(results).values()), Tally.of(last(results).values())
            yield (
                f"Faults by somebody who had not read the gate, round {each.number}, all models, on {machine}: "
                f"{begin.words('refused')} when they came; {now.words('refused')} at their newest judgment."
            )
