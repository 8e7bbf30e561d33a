"""Small changes of a Python file that a test should notice: each is one node of its syntax tree, put otherwise."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["Change", "changed", "changes"]

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"}
# What changes no value, or is another tool's to check.
_LEFT_ALONE = {"strict", "dtype", "stacklevel", "encoding"}


@dataclass(frozen=True)
class Change:
    """One change of one file."""

    number: int
    """Its place among the changes of the file."""
    where: str
    """Function or class, with what it is in; empty at the top of the file."""
    lines: range
    """Of the statement, without the block that it may begin."""
    runs_at_import: bool
    """Whether it is outside of all functions, where no test is seen to pass."""
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.where or 'module'}: `{self.before}` → `{self.after}`"


@dataclass
class _Place:
    """Where in the tree a walk has come to."""

    where: tuple[str, ...] = ()
    inside: bool = False
    """Whether in a function."""
    lines: range = range(0)
    counters: frozenset[str] = frozenset()
    """Names of whole numbers here: annotated parameters, and what runs through a range."""


def changes(source: str) -> list[Change]:
    """Returns all changes of a file, in its order."""
    tree = ast.parse(source)
    return [
        Change(number, ".".join(place.where), place.lines, not place.inside, *_shown(node, other))
        for number, (_, _, node, other, place) in enumerate(_sites(tree, _Place()))
    ]


def changed(source: str, number: int) -> ast.Module:
    """Returns the tree of the file with that change."""
    tree = ast.parse(source)
    for i, (parent, field, node, other, _) in enumerate(_sites(tree, _Place())):
        if i == number:
            value = getattr(parent, field)
            new = [other if item is node else item for item in value] if isinstance(value, list) else other
            setattr(parent, field, new)
            return ast.fix_missing_locations(tree)
    raise IndexError(f"the file has no change {number}")


def _sites(parent: ast.AST, place: _Place) -> Iterator[tuple[ast.AST, str, ast.AST, ast.AST, _Place]]:
    """Yields every change below `parent`: in which node, which field, what is there, and what else could be."""
    for field, value in ast.iter_fields(parent):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if not isinstance(node, ast.AST) or _is_not_for_tests(node):
                continue
            below = _step(node, place)
            if field == "test" and _is_opposite(node):
                yield from _sites(node, below)
                continue
            for other in _others(node, below):
                yield parent, field, node, ast.copy_location(other, node), below
            yield from _sites(node, below)


def _is_opposite(node: ast.AST) -> bool:
    """Whether all that could stand here is the opposite: of a condition, which is set to true and to false anyway."""
    return isinstance(node, ast.Compare) and not isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE)


def _is_not_for_tests(node: ast.AST) -> bool:
    """Whether `node` is left alone: messages, imports, names that a module shows, docstrings."""
    shown = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return shown or text or typing or isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr)


def _step(node: ast.AST, place: _Place) -> _Place:
    if not isinstance(node, ast.stmt):
        if isinstance(node, ast.comprehension) and _is_range(node.iter):
            return replace(place, counters=place.counters | {ast.unparse(node.target)})
        return place
    body = getattr(node, "body", None)
    lines = range(node.lineno, body[0].lineno if body else (node.end_lineno or node.lineno) + 1)
    where, counters = place.where, place.counters
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        where = (*where, node.name)
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        counters |= {a.arg for a in arguments if a.annotation is not None and ast.unparse(a.annotation) == "int"}
    if isinstance(node, ast.For) and _is_range(node.iter):
        counters |= {ast.unparse(node.target)}
    return _Place(where, place.inside or isinstance(node, ast.FunctionDef), lines, counters)


def _is_range(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "range"


def _others(node: ast.AST, place: _Place) -> Iterator[ast.AST]:
    """Yields what else could stand in the place of `node`."""
    if isinstance(node, ast.stmt):
        yield from _other_statements(node)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield ast.Compare(node.left, [_COMPARED[type(node.ops[0])]()], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        yield ast.BinOp(node.left, _COMPUTED[type(node.op)](), node.right)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield node.operand
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if node.id in place.counters:
            yield ast.Constant(0)
        elif node.id in _NAMES:
            yield ast.Name(_NAMES[node.id], node.ctx)
    elif isinstance(node, ast.Attribute) and node.attr in _NAMES:
        yield ast.Attribute(node.value, _NAMES[node.attr], node.ctx)
    elif isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg not in _LEFT_ALONE:
                yield ast.Call(node.func, node.args, [other for other in node.keywords if other is not keyword])


def _other_statements(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, ast.If | ast.While):
        for value in (True, False):
            other = copy.copy(node)
            other.test = ast.Constant(value)
            # `while True` would only wait for the time to run out.
            if value is False or isinstance(node, ast.If):
                yield other
    elif isinstance(node, ast.Break | ast.Continue):
        yield ast.Continue() if isinstance(node, ast.Break) else ast.Break()
    elif (
        isinstance(node, ast.AugAssign)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript))
    ):
        yield ast.Pass()


def _shown(node: ast.AST, other: ast.AST) -> tuple[str, str]:
    """The code before and after; of a call that loses an argument, only that."""
    if isinstance(node, ast.Call) and isinstance(other, ast.Call):
        lost = next(keyword for keyword in node.keywords if keyword not in other.keywords)
        return f"{_short(node.func)}(..., {_short(lost)})", f"{_short(node.func)}(...)"
    return _short(node), _short(other)


def _short(node: ast.AST) -> str:
    """The code of a node in one line: of a block its head."""
    text = " ".join(ast.unparse(node).split("\n")[0].split())
    return text if len(text) <= 80 else text[:77] + "..."
