"""The one command: every command is listed, has its own help, and refuses what it does not know in one line."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from harness.commands.main import COMMANDS, main
from harness.commands.old_forms import NOW

WORDS = {"compare": ("one", "other"), "shards": ("plan",), "merge": ("run",), "replay": ("file",)}
"""What a command takes beside options."""


def ask(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return main(words, out, err), out.getvalue(), err.getvalue()


def test_the_help_names_every_command() -> None:
    code, out, _ = ask("--help")
    assert code == 0
    listed = out.partition("commands (")[2]
    assert [line.split()[0] for line in listed.splitlines()[1:]] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_own_help(name: str) -> None:
    code, out, err = ask(name, "--help")
    assert (code, err) == (0, "")
    assert "python -m harness" in out
    assert "exit code" in out.lower()
    assert "commands (" not in out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("run", "faults")])
@pytest.mark.parametrize(("word", "says"), [("--frob", "'--frob' is no option"), ("frob=3", "frob")])
def test_what_a_command_does_not_know_is_one_line(name: str, word: str, says: str) -> None:
    code, out, err = ask(name, *WORDS.get(name, ()), word)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_misspelled_command_is_told_the_nearest() -> None:
    assert ask("compere") == (2, "", "error: unknown command 'compere': did you mean 'compare'?\n")


def test_an_option_of_the_old_form_is_told_its_new_one() -> None:
    assert ask("timers", "--model", "glm_4_7") == (2, "", "error: timers: '--model' is written model=VALUE\n")


@pytest.mark.parametrize("old", NOW)
def test_a_command_that_was_a_module_says_what_it_is_now(old: str) -> None:
    command = [sys.executable, "-m", f"harness.{old}", "+model=glm_4_7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"'python -m harness {NOW[old]}'" in done.stderr
