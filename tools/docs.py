"""`python -m tools.docs [--check]`: write every generated table of the documents, or name those that are out of date.

A document marks where a table goes by two comments; what stands between them is replaced.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from harness.errors import HarnessError
from tools import blind, command_help, components, progress, record_fields, results, terminal, validation
from tools.repository import Repository

TABLES: Mapping[str, Callable[[Repository], str]] = {
    "verdict": terminal.verdict,
    "headline": results.headline,
    "signed": results.signed,
    "one device": results.one_device,
    "several devices": results.several_devices,
    "progress": progress.tables,
    "faults": validation.faults,
    "blind faults": blind.tables,
    "calibration": validation.calibration,
    "timers": validation.timers,
    "scale": validation.scale,
    "components": components.tables,
    "record fields": record_fields.tables,
    "command help": command_help.sections,
}
DOCUMENTS = ("README.md", "docs/*.md")
MARK = re.compile(r"(<!-- table: ([a-z ]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
LOCAL = re.compile(r"\]\((?!https?:|#)")


def written(path: str, document: str, repository: Repository) -> str:
    """Return the document with every marked table made anew. HarnessError for a mark that names no table."""

    def made(mark: re.Match[str]) -> str:
        begin, name, end = mark.groups()
        if name not in TABLES:
            raise HarnessError(f"{path} marks the place of a table '{name}', and there is none: {', '.join(TABLES)}")
        return f"{begin}\n{rebased(TABLES[name](repository), path)}\n{end}"

    return MARK.sub(made, document)


def rebased(text: str, path: str) -> str:
    """Return Markdown whose links start at the root with links that start at the document `path`."""
    up = "../" * (len(PurePosixPath(path).parts) - 1)
    return LOCAL.sub(f"]({up}", text)


def stale(repository: Repository) -> dict[str, str]:
    """Return the documents that are out of date, by path, as they should be. HarnessError for a table in none."""
    found = {path: repository.text(path) for pattern in DOCUMENTS for path in repository.files(pattern)}
    marked = {name for document in found.values() for _, name, _ in MARK.findall(document)}
    if missing := TABLES.keys() - marked:
        raise HarnessError(f"no document has a place for the table '{min(missing)}'")
    made = {path: written(path, document, repository) for path, document in found.items()}
    return {path: document for path, document in made.items() if document != found[path]}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a document is out of date")
    options = parser.parse_args(argv)
    repository = Repository()
    changed = stale(repository)
    for path, document in changed.items():
        print(f"{path} is out of date: python -m tools.docs" if options.check else f"wrote {path}")
        if not options.check:
            (repository.root / path).write_text(document)
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
