"""The calls of `re` in the product, found by their syntax: what each is called, its pattern, and how it is used."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

from tests.rooms import tree_of

ROOT = Path(__file__).resolve().parents[2]
_CALLS = frozenset({"compile", "sub", "subn", "match", "search", "fullmatch", "findall", "finditer", "split"})


class Use:
    """One call of `re` with a pattern. `name` is `path:variable` for a module's own pattern, else `path:function#n`."""

    def __init__(self, path: str, name: str, call: ast.Call, tree: ast.Module, variable: str) -> None:
        self.path = path
        self.name = f"{path.removeprefix('kofagent/').removesuffix('.py')}:{name}"
        self._call = call
        self._tree = tree
        self._variable = variable

    def methods(self) -> set[str]:
        """The methods that the pattern is used with in its file."""
        assert isinstance(self._call.func, ast.Attribute)
        if self._call.func.attr != "compile":
            return {self._call.func.attr}
        found = {
            node.attr
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == self._variable
        }
        return (found & _CALLS) or {"match"}

    def pattern(self) -> re.Pattern[Any]:
        """The compiled pattern; NameError where it is made from local variables."""
        names = vars(importlib.import_module(self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")))
        arguments = [eval(ast.unparse(self._call.args[0]), names)]
        flags = [k.value for k in self._call.keywords if k.arg == "flags"]
        flags += [a for a in self._call.args[1:] if ast.unparse(a).startswith("re.")]
        arguments += [eval(ast.unparse(flag), names) for flag in flags]
        return re.compile(*arguments)


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, tree: ast.Module) -> None:
        self.path, self.tree = path, tree
        self.uses: list[Use] = []
        self._function = ""
        self._variable = ""
        self._counts: dict[str, int] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before, self._function = self._function, node.name
        self.generic_visit(node)
        self._function = before

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        self._variable = target.id if isinstance(target, ast.Name) and not self._function else ""
        self.generic_visit(node)
        self._variable = ""

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == "re"
            and function.attr in _CALLS
        ):
            name = self._variable
            if not name:
                count = self._counts[self._function] = self._counts.get(self._function, -1) + 1
                name = f"{self._function}#{count}"
            self.uses.append(Use(self.path, name, node, self.tree, self._variable))
        self.generic_visit(node)


def uses() -> list[Use]:
    """Every call of `re` in the product."""
    found: list[Use] = []
    for file in sorted((ROOT / "kofagent").rglob("*.py")):
        text = file.read_text()
        if "re." in text:
            tree = tree_of(file)
            finder = _Finder(str(file.relative_to(ROOT)), tree)
            finder.visit(tree)
            found += finder.uses
    return found
