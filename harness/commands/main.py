"""The one command: `python -m harness COMMAND ...`, where no command at all is `run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from harness.commands.answers import answered
from harness.commands.options import HELP
from harness.errors import UnknownName

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
    "check-kernel": "is a kernel of your own right, and would its cases show it if it were not",
    "timers": "does our kernel timer read what other timers read",
}
"""Each is a module of this package with `help_text(words)` and `main(arguments, out, err)`, imported when it is asked
for."""


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    """Run one command, by default that of this process, and give its exit code. 2: a mistake in what was asked, told in
    one line on `err`."""
    asked = sys.argv[1:] if arguments is None else arguments
    return answered(lambda: _run(asked, out, err), err)


def _run(arguments: Sequence[str], out: TextIO, err: TextIO) -> int:
    named = bool(arguments) and _is_word(arguments[0])
    name, rest = (arguments[0], arguments[1:]) if named else ("run", arguments)
    if name not in COMMANDS:
        raise UnknownName("command", name, COMMANDS)
    command = import_module(f"harness.commands.{name.replace('-', '_')}")
    if any(word in HELP for word in rest):
        told = command.help_text(rest)
        print(told if named else _help(told), file=out)
        return 0
    return int(command.main(rest, out, err))


def _help(of_run: str) -> str:
    listed = "\n".join(f"  {name:<14}{about}" for name, about in COMMANDS.items())
    return f"{of_run}\n\ncommands (python -m harness COMMAND --help):\n{listed}"


def _is_word(argument: str) -> bool:
    return not argument.startswith(("-", "+", "~")) and "=" not in argument
