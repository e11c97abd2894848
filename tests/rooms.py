"""The rooms of the product, from the bottom floor up: the rule that `test_architecture` enforces and the picture in the docs.

python -m tests.rooms --write     # writes the table and the picture into docs/architecture.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[1]
ROOT = PROJECT / "kofagent"
PAGE = PROJECT / "docs" / "architecture.md"

FLOORS: list[dict[str, str]] = [
    {"memory": "memory that is accounted for: what the process uses, what is in flight, and what is remembered"},
    {"wire": "the only room that knows protobuf bytes"},
    {
        "telemetry": "the data model: batches, series, ledger, `Refused`",
        "config": "YAML with file:line, options, problems",
    },
    {"component": "the protocols and the registry; what components are made of: sending, offering, polling, mapping"},
    {
        "transform": "attribute actions, match lists, metric writers",
        "net": "HTTP and gRPC, TLS, proxies, bounded decompression",
    },
    {
        "operators": "the stanza operators and their compiler",
        "ottl": "the transformation language",
        "kubernetes": "list and watch, object caches, kubeconfig",
    },
    {"prometheus": "discovery, relabelling, scraping, monitors"},
    {
        "receivers": "one file or folder per component type, named after the type",
        "processors": "as receivers",
        "exporters": "as receivers",
        "connectors": "as receivers",
        "extensions": "as receivers",
    },
    {"pipeline": "components wired, running, reloading; the agent's own telemetry"},
    {"values": "KOF values to collector configuration", "region": "the stores behind `kofagent dev`"},
    {"cli": "one file per command"},
]
"""A room imports rooms of lower floors only, never its neighbours."""

EXCEPTIONS: dict[tuple[str, str], str] = {}
"""(room, neighbour or higher room) -> why, in one line. Empty is what we want."""

COMPONENT_ROOMS = ("receivers", "processors", "exporters", "connectors", "extensions")
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}


def files(root: Path = ROOT) -> list[Path]:
    """All source files of the product."""
    return sorted(root.rglob("*.py"))


def module_of(path: Path, root: Path = ROOT) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The room of a module, empty for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path, root: Path = ROOT) -> list[tuple[str, int, bool]]:
    """What a file imports of ours: (module, line, whether it happens when the file is imported)."""
    return _imports(path, root)


@cache
def tree_of(path: Path) -> ast.Module:
    """The tree of a file; parsed once, for every test that reads sources."""
    return ast.parse(path.read_text())


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All nodes of a tree or of a part of it; walked once, as above."""
    return tuple(ast.walk(tree))


def statements(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """All statements below a node, and whether they are run later than the module, or by type checkers only."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, name, ()):
            if isinstance(inner, ast.stmt):
                yield inner, lazy
            later = isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) or (
                isinstance(inner, ast.If) and any(_is_typing(part) for part in ast.walk(inner.test))
            )
            yield from statements(inner, lazy or later)


def _is_typing(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING") or (
        isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING"
    )


@cache
def _imports(path: Path, root: Path) -> list[tuple[str, int, bool]]:
    found = []
    for node, lazy in statements(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno, not lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules = {alias.name: root.parent / node.module.replace(".", "/") / alias.name for alias in node.names}
            inner_modules = [n for n, p in modules.items() if p.with_suffix(".py").exists() or (p / "__init__.py").exists()]
            found += [(f"{node.module}.{name}", node.lineno, not lazy) for name in inner_modules]
            if len(inner_modules) < len(modules):
                found.append((node.module, node.lineno, not lazy))
    return [item for item in found if item[0].startswith(f"{root.name}.")]


def violations(path: Path, root: Path = ROOT) -> list[str]:
    """Imports of one file that go up, sideways, or from one component to another."""
    module = module_of(path, root)
    own = room(module)
    if not own or own == "__main__":
        return []
    out = []
    for name, line, _ in imports(path, root):
        other = room(name)
        if not other:
            continue
        if other == own:
            if own in COMPONENT_ROOMS and name.split(".")[2:3] and name.split(".")[2] != module.split(".")[2]:
                out.append(f"{path}:{line}: component {module} imports component {name}")
        elif FLOOR[other] >= FLOOR[own] and (own, other) not in EXCEPTIONS:
            out.append(f"{path}:{line}: {own} imports {other} ({name})")
    return out


def circles(root: Path = ROOT) -> list[list[str]]:
    """Circles of files that import each other, also inside functions and for types only (Tarjan's components)."""
    graph = {module_of(p, root): {name for name, _, _ in imports(p, root)} for p in files(root)}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    out: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node] & graph.keys():
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            circle = []
            while True:
                circle.append(stack.pop())
                if circle[-1] == node:
                    break
            if len(circle) > 1 or node in graph[node]:
                out.append(sorted(circle))

    for node in graph:
        if node not in index:
            visit(node)
    return out


def picture() -> str:
    """The rooms as the page of the architecture shows them, top floor first: a table, then who really imports whom."""
    used: dict[str, set[str]] = {name: set() for name in FLOOR}
    for path in files():
        own = room(module_of(path))
        if own in used:
            used[own] |= {room(name) for name, _, _ in imports(path)} - {own, ""}
    lines = ["| floor | room | what is in it | imports |", "|---|---|---|---|"]
    for number in range(len(FLOORS) - 1, -1, -1):
        for name, text in FLOORS[number].items():
            lower = sorted(used[name], key=lambda other: (-FLOOR[other], other))
            lines.append(f"| {number} | `{name}` | {text} | {' '.join(f'`{other}`' for other in lower) or '-'} |")
    lines.append("")
    if EXCEPTIONS:
        lines += ["Exceptions:", ""] + [f"- `{a}` imports `{b}`: {why}" for (a, b), why in sorted(EXCEPTIONS.items())]
    else:
        lines.append("There are no exceptions.")
    return "\n".join(lines) + "\n"


BEGIN, END = "<!-- rooms: written by `python -m tests.rooms --write` -->\n", "<!-- end of rooms -->\n"


def page() -> str:
    """The page with the present picture in it."""
    text = PAGE.read_text()
    return text[: text.index(BEGIN) + len(BEGIN)] + "\n" + picture() + "\n" + text[text.index(END) :]


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    PAGE.write_text(page())
