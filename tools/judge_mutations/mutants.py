"""Every mutant of one module: its syntax tree with one small change, named so that other lines may move."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tools.judge_mutations.changes import changes

WIDEST = 100
"""Characters of code that a change is shown in."""
TOLD = (ast.JoinedStr, ast.Raise)
"""Words for people: what stands inside them decides nothing. That an error is raised does."""


@dataclass(frozen=True)
class Mutant:
    module: str
    """Path from the root."""
    line: int
    last_line: int
    """Of the statement that is changed, or of its head where it holds others."""
    scope: str
    """Class and function, dotted; empty at the module's top."""
    change: str
    """`BEFORE -> AFTER`."""
    path: tuple[tuple[str, int | None], ...]
    """From the root of the tree to the node: field, and place in it."""
    number: int
    """Of the changes that its node allows."""
    again: int = 0
    """How many of the same words stand before it in its scope."""

    @property
    def name(self) -> str:
        """What it is called in the data: the same as long as its own code is."""
        return f"{self.module}::{self.scope}::{self.change}" + (f" #{self.again}" if self.again else "")


class Module:
    """The source of one module and what can be changed in it."""

    def __init__(self, root: Path, path: str) -> None:
        self.path, self.file = path, root / path
        self.text = self.file.read_text()

    @cached_property
    def mutants(self) -> tuple[Mutant, ...]:
        """In the order of the source."""
        seen: Counter[tuple[str, str]] = Counter()
        return tuple(self._numbered(found, seen) for found in self._found(ast.parse(self.text)))

    def tree(self, mutant: Mutant) -> ast.Module:
        """The module with that one change."""
        tree = ast.parse(self.text)
        parent = _at(tree, mutant.path[:-1])
        field, place = mutant.path[-1]
        node = _at(parent, mutant.path[-1:])
        new = list(changes(node))[mutant.number]
        new = ast.Pass() if new is None else new
        _put(parent, field, place, ast.copy_location(new, node))
        return ast.fix_missing_locations(tree)

    @staticmethod
    def _numbered(found: Mutant, seen: Counter[tuple[str, str]]) -> Mutant:
        words = (found.scope, found.change)
        again, seen[words] = seen[words], seen[words] + 1
        return Mutant(**{**vars(found), "again": again})

    def _found(self, tree: ast.Module) -> Iterator[Mutant]:
        for path, parents in _walk(tree, (), (tree,)):
            node = parents[-1]
            for number, new in enumerate(changes(node)):
                line, last = _lines(parents)
                change = _shown(parents, path, new)
                yield Mutant(self.path, line, last, _scope(parents), change, path, number)


Path_ = tuple[tuple[str, int | None], ...]


def _walk(node: ast.AST, path: Path_, parents: tuple[ast.AST, ...]) -> Iterator[tuple[Path_, tuple[ast.AST, ...]]]:
    if _is_typing(node):
        return
    if path:
        yield path, parents
    if isinstance(node, TOLD) or _is_negative(node):
        return
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for place, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(child, ast.AST) and not isinstance(child, ast.expr_context | ast.operator | ast.cmpop):
                yield from _walk(child, (*path, (field, place)), (*parents, child))


def _is_typing(node: ast.AST) -> bool:
    """Imports, what is read by type checkers alone, and asking for equal lengths, which are equal."""
    checked = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    literal = isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal"
    strict = isinstance(node, ast.keyword) and node.arg == "strict"
    return checked or literal or strict or isinstance(node, ast.Import | ast.ImportFrom | ast.alias)


def _is_negative(node: ast.AST) -> bool:
    """A negative number is changed as one thing."""
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)


def _scope(parents: tuple[ast.AST, ...]) -> str:
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return ".".join(parent.name for parent in parents if isinstance(parent, named))


def _lines(parents: tuple[ast.AST, ...]) -> tuple[int, int]:
    statement = next(parent for parent in reversed(parents) if isinstance(parent, ast.stmt))
    inner = [child.lineno for child in getattr(statement, "body", ()) if isinstance(child, ast.stmt)]
    node = next(parent for parent in reversed(parents) if hasattr(parent, "lineno"))
    last = min(inner) - 1 if inner else statement.end_lineno or statement.lineno
    return node.lineno, max(node.lineno, last)


def _shown(parents: tuple[ast.AST, ...], path: Path_, new: ast.AST | None) -> str:
    """The change within as much of the code around it as one line holds."""
    old, depth = parents[-1], len(parents) - 1
    if new is None or isinstance(old, ast.If):
        return _head(old, new)
    inside = ast.expr | ast.keyword | ast.comprehension | ast.Return | ast.Assign
    while depth > 1 and isinstance(parents[depth - 1], inside):
        if len(_text(parents[depth - 1])) > WIDEST:
            break
        depth -= 1
    around = parents[depth]
    return f"{_text(around)} -> {_text(_with(around, path[depth:], new))}"


def _head(old: ast.AST, new: ast.AST | None) -> str:
    if isinstance(old, ast.If) and isinstance(new, ast.If):
        return f"if {_text(old.test)} -> if {_text(new.test)}"
    return f"{_text(old).splitlines()[0][:WIDEST]} -> {'pass' if new is None else _text(new)}"


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def _with(around: ast.AST, path: Path_, new: ast.AST) -> ast.AST:
    if not path:
        return new
    twin = ast.parse(ast.unparse(around)).body[0] if isinstance(around, ast.stmt) else _copy(around)
    parent = _at(twin, path[:-1])
    _put(parent, *path[-1], new)
    return twin


def _copy(node: ast.AST) -> ast.AST:
    import copy

    return copy.deepcopy(node)


def _at(node: ast.AST, path: Path_) -> ast.AST:
    for field, place in path:
        value = getattr(node, field)
        node = value if place is None else value[place]
    return node


def _put(parent: ast.AST, field: str, place: int | None, new: ast.AST) -> None:
    if place is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[place] = new


def table(text: str) -> Mapping[str, tuple[str, ...]]:
    """Module -> test files, of `modules.yaml`."""
    import yaml

    return {module: tuple(files) for module, files in yaml.safe_load(text).items()}
