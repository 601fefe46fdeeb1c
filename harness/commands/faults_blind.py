"""`python -m harness faults blind`: does the gate refuse faults of somebody who had not read it?

Every fault of the corpus under harness/faults/blind is planted in a copy of these sources and judged there by the
command that should refuse it, in a process of its own, one after another, nothing timed. What the record of that run
says is written down, a line for each fault, commit and kind of machine; at a clean commit, what is written down is
not run again. A crash is no refusal, and neither is a patch that does not apply any more. Exit code 0: whatever must
be refused on this machine was. 1: something was not. 2: a mistake in what was asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from harness.commands.options import Asked, Option, Usage, flag, whole
from harness.errors import UnknownName, UserError
from harness.machine.installation import CHECKOUT
from harness.records.blind_corpus import CORPUS, Planted, append_result, read_corpus, read_results, results_path
from harness.records.blind_fault import BlindResult, last, machine_of

USAGE = Usage(
    "faults blind",
    __doc__,
    (
        Option("round", "of this round alone", None, whole),
        Option("fault", "this one alone", None),
        Option("model", "those of one model", None),
        Option("size", "of the model", "auto"),
        Option("hardware", "cpu, auto or a name that `python -m harness` takes", "cpu"),
        Option("again", "run what is written down, too", False, flag),
        Option("out", "folder for the results; by default beside the faults", None, Path),
    ),
    words=range(1),
)
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr, corpus: Path = CORPUS) -> int:
    from harness.report.blind_table import print_results

    asked = USAGE.read(arguments)
    faults = _chosen(asked, corpus)
    commit, clean = _commit()
    hardware = _named(asked["hardware"])
    folder = asked["out"] or corpus
    results = []
    for planted in faults:
        result = _known(planted, folder, commit, hardware) if clean and not asked["again"] else None
        if result is None:
            print(f"round {planted.round}: {planted.name}", file=err, flush=True)
            result = _judge(planted, commit, hardware, asked["size"])
            append_result(results_path(folder, planted.round), result)
        results.append((planted, result))
    print_results(results, out)
    return int(any(_missed(planted, result) for planted, result in results))


def _judge(planted: Planted, commit: str, hardware: str, size: str) -> BlindResult:
    from harness.faults.blind_trial import judge

    return judge(planted, commit, hardware, (f"size={size}",))


def _missed(planted: Planted, result: BlindResult) -> bool:
    return result.machine in planted.fault.must_refuse and result.end != "refused"


def _chosen(asked: Asked, corpus: Path) -> tuple[Planted, ...]:
    """UserError names what the corpus has not."""
    every = [planted for each in read_corpus(corpus) for planted in each.faults]
    of_round = [planted for planted in every if asked["round"] in (None, planted.round)]
    if not of_round:
        raise UserError(f"faults blind: {corpus} holds no round {asked['round'] or 'at all'}")
    for option, names in (("fault", {p.name for p in of_round}), ("model", {p.fault.model for p in of_round})):
        if asked[option] is not None and asked[option] not in names:
            raise UnknownName(f"{option} of the blind corpus", asked[option], names)
    return tuple(
        planted
        for planted in of_round
        if asked["fault"] in (None, planted.name) and asked["model"] in (None, planted.fault.model)
    )


def _known(planted: Planted, folder: Path, commit: str, hardware: str) -> BlindResult | None:
    """The newest result of this very commit on this kind of machine."""
    held = read_results(results_path(folder, planted.round))
    machine = machine_of(planted.fault.hardware or hardware)
    here = (one for one in held if one.commit == commit and one.machine == machine)
    return last(here).get(planted.name)


def _commit() -> tuple[str, bool]:
    """The commit of these sources, and whether they are it."""
    from harness.machine.environment import source_state

    commit, changed = source_state(CHECKOUT) if CHECKOUT else (None, None)
    return commit or "unknown", commit is not None and changed is None


def _named(choice: str) -> str:
    """The hardware that is meant; UnknownName for one that is not known."""
    from harness.machine import hardware
    from harness.planning.compose import known_hardware
    from harness.planning.hardware_target import LocalMachine
    from harness.planning.settings import Auto

    known = known_hardware()
    if choice == "auto":
        return LocalMachine(hardware.probe(), known, cxx=False, nvcc=False).place(Auto(name="auto")).name
    if choice not in known:
        raise UnknownName("hardware", choice, (*known, "auto"))
    return choice
