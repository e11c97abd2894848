"""Which deciding lines no test misses: takes some of them out or over, one at a time, and runs the fast tests that run the line.

    python -m tests.mutate wire telemetry            # 20 places of each, always the same ones
    python -m tests.mutate --count 5 --seed 2        # 5 others of every room
    python -m tests.mutate receivers/filelog         # a folder of a room is a room, too
    python -m tests.mutate wire --again              # those that survived once more, with the tests that there are now
    python -m tests.mutate --report                  # only shows what the results file has

The tests of a room are run once without any change, to know which of them run which lines. That is kept beside the results, in
`.mutants.reach`, until the product or these tests change; tests that are red then are named and left out. A mutant is "killed" when
a test fails, the module does not import, or the tests take much longer than without it. It has "survived" when all are green, or
no test runs the line: either a test is missing, or the change makes no difference that anybody can see. The tests of the room are
asked first, then, for components, the laws that hold for all of them, then a few files of other rooms that import the module, and the
tests of some components that do. A line that is run when modules are imported is asked of all tests of the room and of these files.

Results are appended to a file (`.mutants.jsonl`), and what it has is not run again, so a run can be stopped and gone on with at any
time. Runs of different rooms may go on beside each other with one results file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests import rooms
from tests.mutate.choice import chosen
from tests.mutate.copies import Copy
from tests.mutate.runs import known, report, run_room

RESULTS = rooms.PROJECT / ".mutants.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rooms", nargs="*", help="rooms, or folders of them; all if none is given")
    parser.add_argument("--count", type=int, default=20, help="mutants of each room (default 20)")
    parser.add_argument("--seed", type=int, default=1, help="chooses other mutants")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are appended (default .mutants.jsonl)")
    parser.add_argument("--again", action="store_true", help="run those that survived again")
    parser.add_argument("--report", action="store_true", help="show what the results file has and run nothing")
    arguments = parser.parse_args()
    wanted = {room: chosen(room, arguments.count, arguments.seed) for room in arguments.rooms or rooms.FLOOR}
    if unknown := [room for room, found in wanted.items() if not found]:
        parser.error(f"nothing to change in {', '.join(unknown)}; rooms: {' '.join(rooms.FLOOR)}")
    if not arguments.report:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder, Copy(Path(folder)) as copy:
            for room, of_room in wanted.items():
                done = known(arguments.results)
                if todo := [m for m in of_room if m not in done or (arguments.again and done[m].state == "survived")]:
                    run_room(room, todo, copy, arguments.results)
    done = known(arguments.results)
    shown = {m for of_room in wanted.values() for m in of_room}
    print(report([r for r in done.values() if arguments.report or r.mutant in shown]))


if __name__ == "__main__":
    main()
