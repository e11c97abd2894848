"""The mutants of a source: its deciding lines, each with one change."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPARED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
COMPARED |= {"is not": "is", "is": "is not", "not in": "in", "in": "not in"}
CALLED = {"min": "max", "max": "min", "sorted": "list", "reversed": "list", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change: `old` at (line, column) of a file becomes `new`. Columns are of bytes and lines from 1, as ast has them."""

    file: str
    line: int
    column: int
    old: str
    new: str
    kind: str

    def apply(self, text: str) -> str:
        """The source with the change in it."""
        lines = text.splitlines(keepends=True)
        at = sum(map(len, lines[: self.line - 1])) + self.column
        if not text.startswith(self.old, at):
            raise ValueError(f"{self.file}:{self.line} is not what it was")
        return text[:at] + self.new + text[at + len(self.old) :]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {' '.join(self.old.split())[:60]} -> {' '.join(self.new.split())[:60]}  ({self.kind})"


class Source:
    """A source file as text and tree. It is ASCII, as a test says, so that columns are those of its characters."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.tree = ast.parse(text)
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def at(self, line: int | None, column: int | None) -> int:
        """The offset of a place."""
        assert line is not None and column is not None
        return self._starts[line - 1] + column

    def mutant(self, start: int, end: int, new: str, kind: str) -> Mutant:
        line = max(i for i, offset in enumerate(self._starts) if offset <= start) + 1
        return Mutant(self.file, line, start - self._starts[line - 1], self.text[start:end], new, kind)

    def over(self, node: ast.expr | ast.stmt, new: str, kind: str) -> Mutant:
        """The node replaced by `new`."""
        return self.mutant(self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset), new, kind)

    def between(self, left: ast.expr, right: ast.expr, words: dict[str, str], kind: str) -> Iterator[Mutant]:
        """The operator between two nodes replaced, if it is one of the words."""
        start = self.at(left.end_lineno, left.end_col_offset)
        gap = self.text[start : self.at(right.lineno, right.col_offset)]
        pattern = "|".join(
            sorted((rf"\b{re.escape(w)}\b" if w[0].isalpha() else re.escape(w) for w in words), key=len, reverse=True)
        )
        if (found := re.search(pattern, gap)) and "#" not in gap:
            yield self.mutant(start + found.start(), start + found.end(), words[found[0]], kind)


def mutants(file: str, text: str) -> list[Mutant]:
    """All changes of a source, in its order. What only the type checker or a reader of the log sees stays as it is."""
    source = Source(file, text)
    found: list[Mutant] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                found.extend(_of_node(source, node))
                visit(node.value)
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _logs(node.value):
            return
        if isinstance(node, ast.Assert):
            return
        found.extend(_of_node(source, node))
        for child in ast.iter_child_nodes(node):
            if not (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and child in (node.args, node.returns)):
                visit(child)

    visit(source.tree)
    return sorted(set(found), key=lambda m: (m.line, m.column, m.new))


def _logs(call: ast.Call) -> bool:
    text = ast.unparse(call.func)
    return bool(re.search(r"(^|[._])log(ger)?\.(debug|info|warning|error|exception)$", text))


def _of_node(source: Source, node: ast.AST) -> Iterator[Mutant]:
    match node:
        case ast.Compare():
            for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
                yield from source.between(left, right, COMPARED, "comparison")
        case ast.BoolOp():
            yield from source.between(node.values[0], node.values[1], {"and": "or", "or": "and"}, "boolean operator")
        case ast.UnaryOp(op=ast.Not()):
            yield source.over(node, f"({ast.unparse(node.operand)})", "boolean operator")
        case ast.BinOp(op=ast.Add() | ast.Sub()) if not _is_text(node.left) and not _is_text(node.right):
            yield from source.between(node.left, node.right, {"+": "-", "-": "+"}, "arithmetic")
        case ast.Assign(targets=[ast.Name(id=name)], value=value) | ast.AnnAssign(target=ast.Name(id=name), value=value):
            if name.isupper() and value is not None and _is_number(value):
                yield source.over(value, f"({ast.unparse(value)}) * 1000", "bound")
        case ast.Call(func=ast.Name(id=name)) if name in CALLED and node.args:
            yield source.over(node.func, CALLED[name], "order" if CALLED[name] == "list" else "bound")
        case ast.Call(func=func) if node.args or node.keywords:
            if re.search(r"Refused$|drop|refuse|reject|give_up", ast.unparse(func)):
                for value in (*node.args, *(k.value for k in node.keywords)):
                    if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
                        yield source.over(value, repr(value.value + "_mutant"), "reason")
        case ast.Return(value=ast.Constant(value=bool() as answer)):
            yield source.over(node, f"return {not answer}", "return")
        case ast.If():
            if len(node.body) == 1 and isinstance(node.body[0], ast.Return | ast.Raise | ast.Continue | ast.Break):
                yield source.over(node.body[0], "pass", "way out")
        case ast.Expr(value=ast.Call(func=ast.Attribute()) | ast.Await(value=ast.Call())):
            yield source.over(node, "pass", "call")
        case ast.AugAssign(op=ast.Add() | ast.Sub()) if not _is_text(node.value):
            yield source.over(node, "pass", "count")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _is_number(node: ast.expr) -> bool:
    return not any(isinstance(inner, ast.Name | ast.Call | ast.Attribute | ast.Dict | ast.Tuple) for inner in ast.walk(node)) and (
        isinstance(node, ast.BinOp) or (isinstance(node, ast.Constant) and type(node.value) in (int, float))
    )
