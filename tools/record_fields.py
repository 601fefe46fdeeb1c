"""The fields of a record, as tables made from the types and their docstrings."""

from __future__ import annotations

import ast
import inspect
from textwrap import dedent

from harness.records.case import Case, Frozen, Plan, Skip, TimingSettings, WorkloadShape
from harness.records.checks import Check, Divergence, Drift, NotJudged, Parity
from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.records.record import (
    ArmReport,
    Block,
    Ceilings,
    Environment,
    Failure,
    KernelTime,
    PhaseDispatches,
    Provenance,
    ReceiptNote,
    Record,
    Series,
    StandingProof,
    Work,
)
from harness.records.weight_statistics import Statistic
from tools.repository import Repository, markdown_table

NOUNS: tuple[type[Frozen], ...] = (
    Plan, Skip, Case, WorkloadShape, TimingSettings,
    Record, Environment, Provenance, ReceiptNote, StandingProof, Failure,
    Parity, Check, NotJudged, Divergence, Drift, Statistic,
    KillMatrix, MutantOutcome,
    ArmReport, Series, Block, Work, PhaseDispatches, Ceilings, KernelTime,
)  # fmt: skip


def tables(_: Repository) -> str:
    """Return a heading and a table of fields for each noun."""
    return "\n".join(_section(noun) for noun in NOUNS)


def _section(noun: type[Frozen]) -> str:
    rows = [[f"`{name}`", f"`{kind}`", meaning] for name, kind, meaning in fields(noun)]
    about = inspect.cleandoc(noun.__doc__ or "").replace("\n", " ")
    paragraphs = [f"### {noun.__name__}", about, markdown_table(("field", "type", "meaning"), rows)]
    return "\n\n".join(filter(None, paragraphs))


def fields(noun: type[Frozen]) -> list[tuple[str, str, str]]:
    """Return name, type as it is written, and meaning of each field of a type, in order."""
    body = ast.parse(dedent(inspect.getsource(noun))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = []
    for statement, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        meaning = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            meaning = inspect.cleandoc(str(after.value.value)).replace("\n", " ")
        kind = ast.unparse(statement.annotation).replace("|", "\\|")
        found.append((statement.target.id, kind, meaning.replace("|", "\\|")))
    return found
