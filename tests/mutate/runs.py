"""Mutants run, and what became of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from tests import rooms
from tests.mutate.changes import Mutant
from tests.mutate.choice import LAWS, suite, units
from tests.mutate.copies import Copy
from tests.mutate.reach import Reach, reach, statement

SHORTEST, TIMES = 60.0, 4.0
"""A mutant has SHORTEST seconds, and TIMES what its tests took without it."""


@dataclass(frozen=True)
class Result:
    """What became of a mutant; `by` is the first test that failed, or how many were asked."""

    room: str
    mutant: Mutant
    state: str
    by: str
    seconds: float


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
    kept = results.with_suffix(".reach")

    @cache
    def reach_of(unit: tuple[str, ...]) -> Reach:
        return reach(unit, copy, kept)

    def plans(mutant: Mutant, text: str) -> Iterator[tuple[list[str], float]]:
        """Tests in order and what they take, until some fail."""
        lines, later = statement(text, mutant.line)
        for number, (unit, files) in enumerate(units(room, mutant.file)):
            found = reach_of(unit)
            tests, loaded = found.of(mutant.file, lines)
            if number and not later and unit != LAWS:
                tests = set(found.green)  # a constant: whoever imports it may see it
            if unit != (files[0],):
                tests = {name for name in tests if name.partition("::")[0] in files}
            order = found.in_order(tests)
            if number == 0 and (loaded or not later):  # what modules make when they are imported may be seen by any test
                own = suite(room, mutant.file)
                more = [name for name in found.green if name not in tests and name.partition("::")[0] in own]
                order += sorted(more, key=lambda name: own.index(name.partition("::")[0]))
            if order:
                yield order, sum(map(found.green.__getitem__, order))

    for number, mutant in enumerate(todo, 1):
        text = (copy.folder / mutant.file).read_text()
        state, by, seconds, green = "survived", "", 0.0, 0
        for tests, normal in plans(mutant, text):
            files = list(dict.fromkeys(name.partition("::")[0] for name in tests))
            copy.write(mutant.file, mutant.apply(text))
            try:
                how, by, took = copy.run(files, tests, SHORTEST + TIMES * normal)
            finally:
                copy.write(mutant.file, text)
            seconds += took
            green += len(tests)
            if how not in ("green", "none"):
                state = "killed"
                break
        if state == "survived":
            by = f"{green} tests are green" if green else "no test runs the line"
        result = Result(room, mutant, state, by, round(seconds, 1))
        with results.open("a") as out:
            out.write(json.dumps(asdict(result)) + "\n")
        print(f"{room} {number}/{len(todo)} {state} {mutant}, {by} [{seconds:.0f} s]", flush=True)


def report(results: list[Result]) -> str:
    """The survivors with their places, then a table room by room."""
    lines = []
    for result in sorted((r for r in results if r.state == "survived"), key=lambda r: (r.room, r.mutant.file, r.mutant.line)):
        source = (rooms.PROJECT / result.mutant.file).read_text().splitlines()
        shown = source[result.mutant.line - 1].strip() if result.mutant.line <= len(source) else ""
        lines += [str(result.mutant), f"    {shown}"]
    lines += ["", "| room | mutants | killed | survived |", "|---|---|---|---|"]
    states = Counter((r.room, r.state) for r in results)
    for room in sorted({r.room for r in results}):
        killed, survived = states[room, "killed"], states[room, "survived"]
        lines.append(f"| {room} | {killed + survived} | {killed} | {survived} |")
    return "\n".join(lines)
