"""The small changes that can be made to one node of a syntax tree: limits moved, conditions turned, steps left out."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator

FACTORS = (1.5, 0.7)
"""What a float literal is multiplied by: a limit half as wide again, and one as much too narrow."""
ORDER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
TURNED = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
OPPOSITE = dict(
    pair
    for one, other in (("min", "max"), ("any", "all"), ("maximum", "minimum"), ("amin", "amax"), ("argmin", "argmax"))
    for pair in ((one, other), (other, one))
)
LEFT_OUT = frozenset({"abs", "sqrt", "sorted", "square", "clamp_min", "clone"})
"""Calls in whose place what they are given may stand."""


def changes(node: ast.AST) -> Iterator[ast.AST | None]:
    """What may stand in a node's place; None where it is left out. A node is never changed itself."""
    made = _BY_TYPE.get(type(node))
    if made is not None:
        yield from made(node)


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    twin = copy.copy(node)
    for name, value in fields.items():
        setattr(twin, name, value)
    return twin


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield _changed(node, value=not value)
    elif isinstance(value, int):
        yield from (_changed(node, value=near) for near in (value + 1, value - 1) if near >= 0)
    elif isinstance(value, float):
        factors = FACTORS[: 2 if value else 1]
        yield from (_changed(node, value=float(f"{value * by:.3g}") if value else 1.0) for by in factors)


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for place, operator in enumerate(node.ops):
        for table in (ORDER, TURNED):
            other = table.get(type(operator))
            if other is not None:
                yield _changed(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])


def _bool_op(node: ast.BoolOp) -> Iterator[ast.AST]:
    for place in range(len(node.values)):
        rest = [*node.values[:place], *node.values[place + 1 :]]
        yield rest[0] if len(rest) == 1 else _changed(node, values=rest)
    yield _changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    """A negative number is a place counted from the end: the one before it."""
    number = getattr(node.operand, "value", None)
    if isinstance(node.op, ast.USub) and isinstance(number, int):
        yield _changed(node, operand=ast.Constant(number + 1))
    else:
        yield node.operand


def _arithmetic(node: ast.BinOp) -> Iterator[ast.AST]:
    other = ARITHMETIC.get(type(node.op))
    text = isinstance(node.left, ast.JoinedStr) or isinstance(getattr(node.left, "value", None), str)
    if other is not None and not text:
        yield _changed(node, op=other())


def _augmented(node: ast.AugAssign) -> Iterator[ast.AST | None]:
    other = ARITHMETIC.get(type(node.op))
    if other is not None:
        yield _changed(node, op=other())
    yield None


def _call(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in OPPOSITE:
        key = "id" if isinstance(node.func, ast.Name) else "attr"
        yield _changed(node, func=_changed(node.func, **{key: OPPOSITE[name]}))
    if name in LEFT_OUT:
        is_method = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") not in ("torch", "math")
        given = node.func.value if is_method and isinstance(node.func, ast.Attribute) else node.args[0]
        yield given


def _condition(node: ast.If | ast.IfExp | ast.Assert) -> Iterator[ast.AST]:
    if not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield _changed(node, test=ast.UnaryOp(ast.Not(), node.test))


def _filtered(node: ast.comprehension) -> Iterator[ast.AST]:
    for place in range(len(node.ifs)):
        yield _changed(node, ifs=[*node.ifs[:place], *node.ifs[place + 1 :]])


def _listed(node: ast.Tuple | ast.List | ast.Set) -> Iterator[ast.AST]:
    if isinstance(getattr(node, "ctx", None), ast.Store) or len(node.elts) < 2:
        return
    if isinstance(node, ast.Tuple) and not all(isinstance(each, ast.Constant) for each in node.elts):
        return
    for place in range(len(node.elts)):
        yield _changed(node, elts=[*node.elts[:place], *node.elts[place + 1 :]])


def _mapped(node: ast.Dict) -> Iterator[ast.AST]:
    for place in range(len(node.keys)):
        keys, values = ([*each[:place], *each[place + 1 :]] for each in (node.keys, node.values))
        yield _changed(node, keys=keys, values=values)


def _expression(node: ast.Expr) -> Iterator[None]:
    if not isinstance(node.value, ast.Constant):
        yield None


def _removed(_: ast.AST) -> Iterator[None]:
    yield None


def _returned(node: ast.Return) -> Iterator[ast.AST]:
    if node.value is not None and not isinstance(node.value, ast.Constant | ast.Call | ast.Compare | ast.BoolOp):
        yield _changed(node, value=ast.Constant(None))


_BY_TYPE: dict[type[ast.AST], Callable[..., Iterator[ast.AST | None]]] = {
    ast.Constant: _constant,
    ast.Compare: _compare,
    ast.BoolOp: _bool_op,
    ast.UnaryOp: _unary,
    ast.BinOp: _arithmetic,
    ast.AugAssign: _augmented,
    ast.Call: _call,
    ast.If: _condition,
    ast.IfExp: _condition,
    ast.comprehension: _filtered,
    ast.Tuple: _listed,
    ast.List: _listed,
    ast.Set: _listed,
    ast.Dict: _mapped,
    ast.Expr: _expression,
    ast.Raise: _removed,
    ast.Continue: _removed,
    ast.Break: _removed,
    ast.Return: _returned,
}
