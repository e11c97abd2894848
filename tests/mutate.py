"""Which deciding lines no test misses: takes some of them out or over, one at a time, and runs the room's fast tests on each.

    python -m tests.mutate wire telemetry            # 20 places of each, always the same ones
    python -m tests.mutate --count 5 --seed 2        # 5 others of every room
    python -m tests.mutate receivers/filelog         # a folder of a room is a room, too
    python -m tests.mutate --report                  # only shows what the results file has

A mutant is "killed" when a test fails, the module does not import, or the tests take much longer than without it. It has "survived"
when all are green: either a test is missing, or the change makes no difference that anybody can see. Results are appended to a
file (`.mutants.jsonl`), and what it has is not run again, so a run can be stopped and gone on with at any time. Runs of different
rooms may go on beside each other with one results file.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from tests import rooms

PROJECT = rooms.PROJECT
RESULTS = PROJECT / ".mutants.jsonl"
COPIED = ("kofagent", "tests", "bench", "docs", "pipelines", "configs", "helm", "pyproject.toml", "README.md")
SHORTEST, TIMES, LAW_SECONDS, LONGEST, MEMORY = 60.0, 4.0, 300.0, 1800.0, 8 << 30
"""A mutant has SHORTEST seconds, or TIMES what its tests took without it (these have LONGEST). MEMORY is in bytes."""
LAWS = ("tests/test_contract.py", "tests/test_ledger_exporters.py", "tests/test_ledger_pipeline.py")
OTHERS = 4
"""Test files of other rooms that are run after those of its own."""

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


@dataclass(frozen=True)
class Result:
    """What became of a mutant; `by` is the first test that failed, or why there was none."""

    room: str
    mutant: Mutant
    state: str
    by: str
    seconds: float


# The mutants of a source


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


# The rooms, their mutants and their tests


def chosen(room: str, count: int, seed: int) -> list[Mutant]:
    """Some mutants of a room, at most one a line: always the same ones for the same source, count and seed."""
    folder = rooms.ROOT / room
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    every = [m for path in paths for m in mutants(str(path.relative_to(PROJECT)), path.read_text())]
    chance = random.Random(f"{seed} {room}")
    chance.shuffle(every)
    lines: dict[tuple[str, int], Mutant] = {}
    for mutant in every:
        lines.setdefault((mutant.file, mutant.line), mutant)
    return list(lines.values())[:count]


@cache
def importers() -> dict[str, set[Path]]:
    """Every module of the product -> the test files that import it themselves."""
    found: dict[str, set[Path]] = {}
    for path in sorted((PROJECT / "tests").rglob("test_*.py")):
        for node in ast.walk(rooms.tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kofagent."):
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    found.setdefault(name, set()).add(path)
    return found


def suite(room: str, file: str = "") -> list[str]:
    """The test files of a room: those that import the module of `file` first, a few of other rooms that do so last.

    Components know nothing of each other, so that the tests of the component are enough.
    """
    top, _, rest = room.partition("/")
    if top in rooms.COMPONENT_ROOMS and not rest and file:
        narrow = suite(f"{top}/{Path(file).parts[2].removesuffix('.py')}", file)
        return narrow or suite(f"{top}/", file)
    folder = PROJECT / "tests" / top
    if rest:
        mine = {*folder.glob(f"{rest}/**/test_*.py"), *folder.glob(f"test_{rest}*.py")}
    else:
        mine = set(folder.rglob("test_*.py"))
    near = importers().get(rooms.module_of(PROJECT / file, rooms.ROOT), set()) if file else set()
    others = sorted(p for p in near - mine if not any(part.startswith(("e2e", "helm")) for part in p.parts))
    return [str(p.relative_to(PROJECT)) for p in (*sorted(mine & near), *sorted(mine - near), *others[:OTHERS])]


def laws(file: str) -> list[str]:
    """What is run when a component's own tests are green: the laws that hold for every component, for this one."""
    room, name = Path(file).parts[1:3]
    if room in rooms.COMPONENT_ROOMS:
        return [*LAWS, "-k", name.removesuffix(".py")]
    return [*LAWS, "-k", "otlphttp or filter or kubeletstats"] if room == "component" else []


# Running


class Copy:
    """A copy of the project in which mutants are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            if (PROJECT / name).is_dir():
                shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (PROJECT / name).exists():
                shutil.copy(PROJECT / name, folder / name)
        self._clock = int(time.time())

    def write(self, file: str, text: str) -> None:
        """Each content has a time of its own: bytecode is told apart by time, in seconds, and size."""
        path = self.folder / file
        path.write_text(text)
        self._clock += 2
        os.utime(path, (self._clock, self._clock))

    def run(self, tests: list[str], seconds: float) -> tuple[str, str, float]:
        """Runs tests: ("green" | "red" | "late" | "none", the first that failed or the last line of what was printed, seconds)."""
        env = {"HYPOTHESIS_PROFILE": "dev", **os.environ, "PYTHONPATH": str(self.folder)}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--tb=no", *tests]
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return "late", f"took over {seconds:.0f} s", time.monotonic() - began
        finally:
            with_its_children_gone(process)
        words = re.search(r"^(?:FAILED|ERROR) (\S+)", out, re.MULTILINE)
        last = out.strip().splitlines()[-1] if out.strip() else ""
        state = {0: "green", 5: "none"}.get(process.returncode, "red")
        return state, words[1] if words else last, time.monotonic() - began


def with_its_children_gone(process: subprocess.Popen[str]) -> None:
    """Ends what a run left behind: everything of the session that was started for it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def known(file: Path) -> dict[Mutant, Result]:
    """What the results file has."""
    found = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        row = json.loads(line)
        mutant = Mutant(**row.pop("mutant"))
        found[mutant] = Result(mutant=mutant, **row)
    return found


def run_room(room: str, todo: list[Mutant], copy: Copy, results: Path) -> None:
    """Runs what is to be done of a room and appends each result."""
    normal: dict[str, float] = {}
    for number, mutant in enumerate(todo, 1):
        tests = suite(room, mutant.file)
        key = " ".join(sorted(tests))
        if key not in normal:
            state, by, seconds = copy.run(tests, LONGEST)
            normal[key] = seconds if state == "green" else 0
            if state != "green":
                print(f"{room}: the tests of {mutant.file} are {state} without any change ({by}): left out", flush=True)
        if not normal[key]:
            continue
        text = (copy.folder / mutant.file).read_text()  # the project may go on meanwhile
        copy.write(mutant.file, mutant.apply(text))
        try:
            limit = max(SHORTEST, TIMES * normal[key])
            state, by, seconds = copy.run(tests, limit)
            if state == "green" and laws(mutant.file):
                state, by, more = copy.run(laws(mutant.file), limit + LAW_SECONDS)
                seconds += more
        finally:
            copy.write(mutant.file, text)
        result = Result(room, mutant, {"green": "survived", "none": "survived"}.get(state, "killed"), by, round(seconds, 1))
        with results.open("a") as out:
            out.write(json.dumps(asdict(result)) + "\n")
        killed_by = f", by {by}" if result.state == "killed" else ""
        print(f"{room} {number}/{len(todo)} {result.state} {mutant}{killed_by} [{seconds:.0f} s]", flush=True)


def report(results: list[Result]) -> str:
    """The survivors with their places, then a table room by room."""
    lines = []
    for result in sorted((r for r in results if r.state == "survived"), key=lambda r: (r.room, r.mutant.file, r.mutant.line)):
        source = (PROJECT / result.mutant.file).read_text().splitlines()
        shown = source[result.mutant.line - 1].strip() if result.mutant.line <= len(source) else ""
        lines += [str(result.mutant), f"    {shown}"]
    lines += ["", "| room | mutants | killed | survived |", "|---|---|---|---|"]
    states = Counter((r.room, r.state) for r in results)
    for room in sorted({r.room for r in results}):
        killed, survived = states[room, "killed"], states[room, "survived"]
        lines.append(f"| {room} | {killed + survived} | {killed} | {survived} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", help="rooms, or folders of them; all if none is given")
    parser.add_argument("--count", type=int, default=20, help="mutants of each room (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="chooses other mutants")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are appended (default .mutants.jsonl)")
    parser.add_argument("--report", action="store_true", help="show what the results file has and run nothing")
    arguments = parser.parse_args()
    wanted = {room: chosen(room, arguments.count, arguments.seed) for room in arguments.rooms or rooms.FLOOR}
    if unknown := [room for room, found in wanted.items() if not found]:
        parser.error(f"nothing to change in {', '.join(unknown)}; rooms: {' '.join(rooms.FLOOR)}")
    if not arguments.report:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            copy = Copy(Path(folder))
            for room, of_room in wanted.items():
                done = known(arguments.results)
                if todo := [m for m in of_room if m not in done]:
                    run_room(room, todo, copy, arguments.results)
    done = known(arguments.results)
    shown = {m for of_room in wanted.values() for m in of_room}
    print(report([r for r in done.values() if arguments.report or r.mutant in shown]))


if __name__ == "__main__":
    main()
