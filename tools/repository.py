"""What git knows of this repository: its committed records, as the harness reads them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.errors import HarnessError
from harness.records.record import Record
from harness.records.run_file import read_file

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Evidence:
    """A record and the file, from the root, that it stands in."""

    path: str
    record: Record

    def link(self) -> str:
        return f"[record]({self.path})"


@dataclass(frozen=True)
class Repository:
    """The committed files of a checkout, read once."""

    root: Path = ROOT

    def files(self, pattern: str) -> tuple[str, ...]:
        """Return the paths, from the root and sorted, that git knows and that are there. HarnessError outside a
        checkout."""
        done = subprocess.run(
            ["git", "ls-files", "-z", pattern], cwd=self.root, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise HarnessError(f"which files are committed cannot be told in {self.root}: {done.stderr.strip()}")
        return tuple(sorted(path for path in done.stdout.split("\0") if path and (self.root / path).exists()))

    @cached_property
    def records(self) -> tuple[Evidence, ...]:
        """Every record of every committed run file, whatever its end."""
        return tuple(
            Evidence(path, record)
            for path in self.files("benchmark_results/*.jsonl")
            for record in read_file(self.root / path).records
        )

    @property
    def passed(self) -> tuple[Evidence, ...]:
        return tuple(evidence for evidence in self.records if evidence.record.status == "passed")

    def text(self, path: str) -> str:
        return (self.root / path).read_text()


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table. HarnessError where a row has another number of cells than the head."""
    if any(len(row) != len(heads) for row in rows):
        raise HarnessError(f"a row of the table of {heads[0]} has another number of cells than its head")
    lines = [_line(heads), "|---" * len(heads) + "|", *(_line(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
