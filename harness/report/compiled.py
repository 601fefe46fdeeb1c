"""Tabulate what was compiled ahead of time for a GPU that is not there: one row for each kind of compilation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from harness.report import formats
from harness.report.cells import Cell, Table, columns, row

LINE = re.compile(r"(?P<kernel>\S+) (?P<dtype>\S+) (?P<target>sm_\d+): (?P<shared>\d+) B shared(?P<wgmma>, wgmma)?")
"""As `harness.parity.kernels.compile_ahead.Compiled.label` writes it."""


def table(compiled: Sequence[str]) -> Table:
    """`compiled` as a record's provenance holds it; what was compiled alike several times is one row with its number. A
    line of another form stands whole in the first column."""
    rows = tuple(_row(line, count) for line, count in Counter(compiled).items())
    label = f"{formats.number_of(len(compiled), 'compilation')} ahead of time"
    return Table(label, columns("Kernel", "Type", "For", "Shared memory#", "Tensor cores", "Variants#"), rows)


def _row(line: str, count: int) -> tuple[Cell, ...]:
    found = LINE.fullmatch(line)
    if found is None:
        return row(line, *[formats.NONE] * 4, str(count))
    cores = "warp-group (wgmma)" if found["wgmma"] else formats.NONE
    return row(found["kernel"], found["dtype"], found["target"], f"{int(found['shared']):,} B", cores, str(count))
