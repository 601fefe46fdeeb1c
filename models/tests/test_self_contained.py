"""A model directory is self-contained: it imports no other, common knows none of them, and nothing is copied."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from harness.build.registry import MODELS, names

LONG = 6
"""Statements above which an equal function body is a copy."""


def imported(path: Path, root: Path) -> Iterator[str]:
    """Every module, and every name of one, that a file under `root` imports, as seen from the folder of `root`."""
    package = path.relative_to(root.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def strangers(root: Path, folder: str, models: Iterable[str]) -> set[str]:
    """What files of `folder` import from models that are not its own, tests and benchmarks among them."""
    others = [f"{root.name}.{name}" for name in models if name != folder]
    return {
        f"{path.relative_to(root)} imports {module}"
        for path in (root / folder).rglob("*.py")
        for module in imported(path, root)
        if any(module == other or module.startswith(f"{other}.") for other in others)
    }


@pytest.mark.parametrize("folder", [*names(), "common"])
def test_no_model_is_imported_from_elsewhere(folder: str) -> None:
    assert strangers(MODELS, folder, names()) == set()


@pytest.mark.parametrize(
    ("place", "line", "seen"),
    [
        ("a/layer.py", "import models.b.layer", True),
        ("a/layer.py", "from models import b", True),
        ("a/layer.py", "from .. import b", True),
        ("a/layer.py", "from ..b import layer", True),
        ("a/tests/test_layer.py", "from ...b.layer import grow", True),
        ("a/layer.py", "from . import b", False),
        ("a/layer.py", "from ..common import b", False),
        ("a/layer.py", "from models.bb import layer", False),
    ],
)
def test_a_planted_import_is_seen(tmp_path: Path, place: str, line: str, seen: bool) -> None:
    path = tmp_path / "models" / place
    path.parent.mkdir(parents=True)
    path.write_text(f"{line}\n")
    assert bool(strangers(tmp_path / "models", "a", ["a", "b"])) == seen


def undocumented(node: ast.AST) -> ast.AST:
    """The same code without its docstrings."""
    for inner in ast.walk(node):
        documented = isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if documented and ast.get_docstring(inner) is not None:
            del inner.body[0]
    return node


def statements(function: ast.FunctionDef) -> int:
    return sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1


def copies(root: Path, models: Iterable[str]) -> list[list[str]]:
    """The functions of more than LONG statements whose bodies are equal in several models under `root`, tests and
    benchmarks among them; docstrings do not count."""
    bodies = defaultdict(set)
    for name in models:
        for path in (root / name).rglob("*.py"):
            for node in ast.walk(undocumented(ast.parse(path.read_text()))):
                if (
                    isinstance(node, ast.FunctionDef)
                    and sum(isinstance(n, ast.stmt) for n in ast.walk(node)) > LONG + 1
                ):
                    bodies["\n".join(ast.dump(item) for item in node.body)].add((name, path.name, node.name))
    found = [sorted(copied) for copied in bodies.values() if len({name for name, _, _ in copied}) > 1]
    return sorted([": ".join(place) for place in copied] for copied in found)


def test_no_long_function_is_copied_between_models() -> None:
    assert copies(MODELS, names()) == []


def body(statements: int) -> str:
    return "".join(f"    x = x + {number}\n" for number in range(statements))


DOCUMENTED = '    """What it does."""\n'


@pytest.mark.parametrize(
    ("ours", "place", "theirs", "seen"),
    [
        (body(LONG + 1), "layer.py", body(LONG + 1), True),
        (body(LONG + 1), "layer.py", DOCUMENTED + body(LONG + 1), True),
        (body(LONG + 1), "tests/test_layer.py", body(LONG + 1), True),
        (body(LONG + 1), "layer.py", body(LONG + 2), False),
        (DOCUMENTED + body(LONG), "layer.py", body(LONG), False),
    ],
    ids=["equal", "docstring", "test", "another body", "a docstring is no statement"],
)
def test_a_planted_copy_is_seen(tmp_path: Path, ours: str, place: str, theirs: str, seen: bool) -> None:
    for path, text in ((tmp_path / "a" / "layer.py", ours), (tmp_path / "b" / place, theirs)):
        path.parent.mkdir(parents=True)
        path.write_text(f"def grow(x):\n{text}")
    assert copies(tmp_path, ["a", "b"]) == ([["a: layer.py: grow", f"b: {Path(place).name}: grow"]] if seen else [])


def test_every_model_has_its_line_of_configuration() -> None:
    conf = MODELS.parent / "conf" / "model"
    assert {path.stem: path.read_text().strip() for path in conf.glob("*.yaml")} == {n: f"name: {n}" for n in names()}
