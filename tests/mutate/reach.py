"""Which tests run which lines of the product: each folder of tests is run once to know it, and the answer is kept on disk."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import coverage

from tests.mutate.copies import Copy

LONGEST = 3600.0
"""Seconds that a folder of tests may take."""


class Reach:
    """What one folder (or file) of tests runs. `green` is what each test took, in seconds; `red` failed without any change."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "tests.json").read_text())
        self.green: dict[str, float] = about["green"]
        self.red: list[str] = about["red"]
        self._root = Path(about["root"])
        self._data = coverage.CoverageData(str(folder / "lines"))
        self._data.read()

    def of(self, file: str, lines: Iterable[int]) -> tuple[set[str], bool]:
        """The green tests that run one of the lines, and whether they are run by no test too, when modules are imported."""
        by_line = self._data.contexts_by_lineno(str(self._root / file))
        found = {name for line in lines for name in by_line.get(line, ())}
        return {name for name in found if name in self.green}, "" in found

    def in_order(self, tests: Iterable[str]) -> list[str]:
        """File by file, since fixtures are made for files; what takes least comes first."""
        by_file: dict[str, list[str]] = {}
        for name in tests:
            by_file.setdefault(name.partition("::")[0], []).append(name)
        whole = {file: sum(map(self.green.__getitem__, names)) for file, names in by_file.items()}
        return [
            name for file in sorted(by_file, key=whole.__getitem__) for name in sorted(by_file[file], key=self.green.__getitem__)
        ]


def reach(unit: tuple[str, ...], copy: Copy, kept: Path) -> Reach:
    """What the tests of these folders or files run; they are run now if product or tests are not what they were."""
    name = unit[0].removeprefix("tests/").replace("/", "-").removesuffix(".py")
    folder = kept / f"{name}.{_digest(unit, copy.folder)}"
    if not folder.exists():
        kept.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=kept))
        state, by, seconds = copy.run(list(unit), None, LONGEST, reach=made)
        if not (made / "tests.json").exists():
            raise RuntimeError(f"{' '.join(unit)}: {state}, {by}")
        combined = coverage.Coverage(data_file=str(made / "lines"), config_file=False)
        combined.combine([str(made)])
        combined.save()
        for old in kept.glob(f"{name}.*"):
            shutil.rmtree(old)
        made.rename(folder)
        found = Reach(folder)
        print(f"{' '.join(unit)}: {len(found.green)} tests in {seconds:.0f} s, lines noted", flush=True)
        for test in found.red:
            print(f"  left out, red without any change: {test}", flush=True)
    return Reach(folder)


def _digest(unit: tuple[str, ...], root: Path) -> str:
    """Tells apart what the tests of a unit depend on: the product, these tests, what tests share."""
    digest = hashlib.sha256()
    for name in ("kofagent", "tests/support", "tests/cluster", "tests/conftest.py", *unit):
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file.exists():
                digest.update(f"{file.relative_to(root)}\0{file.read_text()}\0".encode())
    return digest.hexdigest()[:12]


@cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def statement(text: str, line: int) -> tuple[range, bool]:
    """The lines of the statement at a line, without those inside it, and whether it is run later than its module: in a function."""
    lines, later = range(line, line + 1), False
    body: list[ast.AST] = [_tree(text)]
    while body:
        node = body.pop()
        for inner in ast.iter_child_nodes(node):
            if not isinstance(inner, ast.stmt):
                body.append(inner)  # handlers and cases have statements in them
            elif inner.lineno <= line <= (inner.end_lineno or 0):
                later = later or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                first = [s.lineno for s in getattr(inner, "body", ()) if isinstance(s, ast.stmt)]
                end = first[0] - 1 if first else inner.end_lineno or line
                lines = range(inner.lineno, end + 1) if line <= max(end, inner.lineno) else range(line, line + 1)
                body = [inner]
                break
    return lines, later
