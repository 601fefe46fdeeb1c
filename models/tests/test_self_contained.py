"""A model directory is self-contained: it imports no other, common knows none of them, and nothing is copied."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.registry import MODELS, names

LONG = 6
"""Statements above which an equal function body is a copy."""


def sources(folder: str) -> Iterator[Path]:
    return (path for path in (MODELS / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("folder", [*names(), "common"])
def test_no_model_is_imported_from_elsewhere(folder: str) -> None:
    others = [f"models.{name}" for name in names() if name != folder]
    found = {
        f"{path.relative_to(MODELS)} imports {module}"
        for path in sources(folder)
        for module in imported(path)
        if any(module == other or module.startswith(f"{other}.") for other in others)
    }
    assert found == set()


def statements(function: ast.FunctionDef) -> int:
    return sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1


def test_no_long_function_is_copied_between_models() -> None:
    bodies = defaultdict(set)
    for name in names():
        for path in sources(name):
            if "tests" in path.parts or "benchmarks" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef) and statements(node) > LONG:
                    bodies["\n".join(ast.dump(item) for item in node.body)].add(f"{name}: {node.name}")
    assert [sorted(copies) for copies in bodies.values() if len({c.split(":")[0] for c in copies}) > 1] == []


def test_every_model_has_its_line_of_configuration() -> None:
    conf = MODELS.parent / "conf" / "model"
    assert {path.stem: path.read_text().strip() for path in conf.glob("*.yaml")} == {n: f"name: {n}" for n in names()}
