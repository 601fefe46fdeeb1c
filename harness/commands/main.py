"""The one command: `python -m harness COMMAND ...`, where no command at all is `run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from harness.commands.services import services
from harness.errors import UnknownName, UserError

COMMANDS = {
    "run": "prove and time cases: +model=X ... (the word may be left out)",
    "compare": "two runs, or two revisions measured now: a verdict for each case",
    "history": "is tonight's speed that of the nights before, and since which commit is it not",
    "report": "the report of a run, or the site of all runs",
    "signoff": "may this optimization ship: evidence, policy and waivers to one decision",
    "faults": "plant every fault: is the gate itself able to fail",
    "shards": "how a plan divides into shards, and whether shards of the tests ran every test once",
    "merge": "the shards of a plan as one run, with proof that nothing is missing or twice",
    "replay": "run a saved failure again",
    "calibrate": "do right answers stay clear of the gate's limits on this machine",
    "tune": "find the fastest launch shapes of a model's decode steps on this GPU",
    "timers": "does our kernel timer read what other timers read",
}


def main(argv: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    """Run one command. Exit code 2: a mistake in what was asked, told in one line on `err`."""
    name, rest = (argv[0], argv[1:]) if argv and _is_word(argv[0]) else ("run", argv)
    try:
        if name not in COMMANDS:
            raise UnknownName("command", name, COMMANDS)
    except UserError as error:
        print(f"error: {error}", file=err)
        return 2
    command = import_module(f"harness.commands.{name}")
    if name == "run":
        return int(command.main(rest, services, out, err))
    return int(command.main(list(rest)))


def _is_word(argument: str) -> bool:
    return not argument.startswith(("-", "+", "~")) and "=" not in argument
