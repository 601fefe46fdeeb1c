"""What every command says of itself, as docs/commands.md shows it."""

from __future__ import annotations

from importlib import import_module

from harness.commands.main import COMMANDS
from tools.repository import Repository


def sections(repository: Repository) -> str:
    """Return a section a command, with its help text."""
    return "\n".join(_section(name, about) for name, about in COMMANDS.items())


def _section(name: str, about: str) -> str:
    text = import_module(f"harness.commands.{name.replace('-', '_')}").help_text()
    return f"## {name}\n\n{about[0].upper()}{about[1:]}.\n\n```text\n{text}\n```\n"
