"""Finds what is remembered outside of Memos: dicts that are bounded by hand, and dicts that grow with the data and never shrink.

Both are found by their look, so a dict of another purpose may be found too; `test_hand_made.py` has the list of those, each with
its reason.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from tests.rooms import nodes, statements, tree_of

_SHRINKING = ("clear", "popitem", "pop", "popleft", "remove", "discard", "difference_update")
_EMPTY = ("dict", "OrderedDict", "defaultdict", "set", "WeakValueDictionary", "WeakKeyDictionary")
_text = functools.cache(ast.unparse)
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def bounded_by_hand(tree: ast.AST) -> Iterator[str]:
    """The containers that are made smaller where `len` of them is compared: the source text of each."""
    for node in nodes(tree):
        if isinstance(node, ast.If | ast.While):
            compared = [side for c in ast.walk(node.test) if isinstance(c, ast.Compare) for side in (c.left, *c.comparators)]
            for side in compared:
                for call in ast.walk(side):
                    if isinstance(call, ast.Call) and _text(call.func) == "len" and len(call.args) == 1:
                        name = _text(call.args[0])
                        if any(_shrinks(inner, name) for statement in node.body for inner in ast.walk(statement)):
                            yield name


def _shrinks(node: ast.AST, name: str) -> bool:
    """Whether a statement takes something out of `name`, or puts another container in its place."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _SHRINKING and _text(node.func.value) == name
    if isinstance(node, ast.Delete):
        return any(isinstance(t, ast.Subscript) and _text(t.value) == name for t in node.targets)
    if isinstance(node, ast.Assign):
        targets = [part for t in node.targets for part in (t.elts if isinstance(t, ast.Tuple) else [t])]
        return any(_text(t) == name for t in targets) and (bool(_made_empty(node)) or name.startswith("self."))
    return False


def never_smaller(tree: ast.Module) -> Iterator[str]:
    """The dicts and sets of modules, objects and closures that are looked into and added to, and that nothing makes smaller."""
    for name, (made, scope) in _containers(tree).items():
        if _looks_and_adds(scope, name) and not any(_shrinks(node, name) for node in nodes(scope) if node is not made):
            yield name


def _containers(tree: ast.Module) -> dict[str, tuple[ast.AST, ast.AST]]:
    """Containers that begin empty and live longer than a call: the statement that makes them, and where they are known."""
    out: dict[str, tuple[ast.AST, ast.AST]] = {}
    for node in tree.body:
        out.update({name: (made, tree) for name, made in _made_empty(node).items()})
    for scope, _ in statements(tree):
        if isinstance(scope, ast.ClassDef):
            for node, _ in statements(scope):
                for name, made in _made_empty(node).items():
                    if name.startswith("self."):
                        out.setdefault(name, (made, scope))
        elif isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            here = [(name, made) for node, _ in statements(scope) for name, made in _made_empty(node).items()]
            local = [(name, made) for name, made in here if not name.startswith("self.")]
            inner = [f for f in nodes(scope) if isinstance(f, _Function) and f is not scope] if local else []
            for name, made in local:
                if any(_looks_and_adds(f, name) for f in inner):
                    out.setdefault(name, (made, scope))
    return out


def _made_empty(node: ast.AST) -> dict[str, ast.AST]:
    if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
        value = node.value
        empty = isinstance(value, ast.Dict) and not value.keys
        empty = empty or (isinstance(value, ast.Call) and _text(value.func).split("[")[0] in _EMPTY and not value.args[1:])
        if empty:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return {_text(target): node for target in targets}
    return {}


def _looks_and_adds(scope: ast.AST, name: str) -> bool:
    """Whether a key is looked up in `name`, and one is added: what caches do."""
    looks = adds = False
    for node in nodes(scope):
        if isinstance(node, ast.Attribute) and _text(node.value) == name:
            looks = looks or node.attr in ("get", "setdefault", "__getitem__")
            adds = adds or node.attr in ("setdefault", "add", "update")
        elif isinstance(node, ast.Compare) and any(_text(c) == name for c in node.comparators):
            looks = looks or any(isinstance(op, ast.In | ast.NotIn) for op in node.ops)
        elif isinstance(node, ast.Subscript) and _text(node.value) == name:
            looks = looks or isinstance(node.ctx, ast.Load)
            adds = adds or isinstance(node.ctx, ast.Store)
    return looks and adds


def filled_by_itself(tree: ast.AST) -> Iterator[str]:
    """The classes that are dicts with a `__missing__`."""
    for node in nodes(tree):
        if isinstance(node, ast.ClassDef) and any(isinstance(f, ast.FunctionDef) and f.name == "__missing__" for f in node.body):
            yield node.name


def cached(tree: ast.AST) -> Iterator[str]:
    """The functions with `lru_cache` or `cache`."""
    for node in nodes(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if _text(decorator).split("(")[0].split(".")[-1] in ("lru_cache", "cache"):
                    yield node.name


def places(path: Path, root: Path) -> list[str]:
    """`file:container` of everything found in a file."""
    tree = tree_of(path)
    where = path.relative_to(root)
    names = [*bounded_by_hand(tree), *never_smaller(tree), *filled_by_itself(tree), *(f"{name}()" for name in cached(tree))]
    return [f"{where}:{name}" for name in dict.fromkeys(names)]
