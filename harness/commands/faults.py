"""`python -m harness faults +model=NAME [optimization=...] [size=...]`: is the gate itself able to fail?

The grammar is that of `python -m harness`, without timing unless it is asked for. Each case is proven, then every fault
of its catalogue is planted and judged by the same gate. Exit code 0: each fault that can be told from the right thing
was seen. 1: one survived, or the case failed without it. 2: a mistake in what was asked.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

from harness.commands import faults_blind, run
from harness.commands.options import Usage
from harness.commands.services import services

BLIND = "blind"


def help_text(words: Sequence[str] = ()) -> str:
    """Of this command and of its other form, or of that alone where it is asked for."""
    blind = faults_blind.help_text()
    return blind if BLIND in words else f"{Usage('faults', __doc__).help()}\n{blind}"


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    if arguments and arguments[0] == BLIND:
        return faults_blind.main(arguments[1:], out, err)
    asked = [*arguments]
    if asked and not any(word.lstrip("+").startswith("timing=") for word in asked):
        asked.append("timing=off")
    command = ("python", "-m", "harness", "faults", *arguments)
    return run.main(asked, out, err, lambda: replace(services(command), mutants=True))
