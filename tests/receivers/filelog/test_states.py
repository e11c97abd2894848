"""The table of a tailed file's states is what its methods do, and only they change it."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kofagent.receivers.filelog as room
from kofagent.receivers.filelog.source import OPEN_FLAGS
from kofagent.receivers.filelog.states import MOVES, IllegalMove, Move, State
from kofagent.receivers.filelog.tail import Tail
from tests.receivers.filelog.support import Tailing

ROUTES: dict[State, list[Move]] = {
    State.OPEN: [],
    State.PARKED: [Move.PARK],
    State.COPY: [Move.WAIT_FOR],
    State.LEAVING: [Move.LEAVE],
    State.STRAY: [Move.WAIT_FOR, Move.LEAVE],
    State.ENDED: [Move.END],
    State.CLOSED: [Move.CLOSE],
}
"""How a file gets into each state."""


class Files:
    """Tails of one file with some lines, closed at the end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a.log"
        self.path.write_text("one\ntwo\n")
        self.reading = Tailing({"include": [str(self.path)]}).receiver.reading
        self.tails: list[Tail] = []
        self.twin = self.make()

    def make(self) -> Tail:
        fd = os.open(self.path, OPEN_FLAGS)
        self.tails.append(Tail(self.reading, "uid", str(self.path), fd, os.fstat(fd), attributes={}))
        return self.tails[-1]

    def reopen(self, tail: Tail) -> None:
        fd = os.open(self.path, OPEN_FLAGS)
        try:
            tail.reopen(fd)
        except IllegalMove:
            os.close(fd)
            raise

    def do(self, tail: Tail, move: Move) -> None:
        methods: dict[Move, Callable[[], Any]] = {
            Move.PARK: tail.park,
            Move.REOPEN: lambda: self.reopen(tail),
            Move.LEAVE: lambda: tail.leave(5.0),
            Move.COME_BACK: tail.come_back,
            Move.WAIT_FOR: lambda: tail.wait_for(self.twin),
            Move.STAND_ALONE: tail.stand_alone,
            Move.TAKE_OVER: lambda: tail.take_over(self.twin.identity(), 4),
            Move.SURRENDER: lambda: os.close(tail.surrender()),
            Move.END: tail.end,
            Move.CLOSE: tail.close,
        }
        methods[move]()

    def close(self) -> None:
        for tail in self.tails:
            if tail.fd >= 0:
                os.close(tail.fd)


@pytest.fixture
def files(tmp_path: Path) -> Any:
    files = Files(tmp_path)
    yield files
    files.close()


def picture(tail: Tail) -> tuple[Any, ...]:
    return tail.state, tail.fd, tail.lost_at, tail.twin, tail.uid, tail.head, tail.source, tail.complete


def check(tail: Tail, was_copy: bool) -> None:
    """What holds in each state."""
    state = tail.state
    if state in (State.OPEN, State.COPY, State.LEAVING, State.STRAY):
        assert os.fstat(tail.fd).st_ino == tail.key[1], "it is open"
    if state in (State.PARKED, State.CLOSED):
        assert tail.fd == -1
    if state not in (State.ENDED, State.CLOSED):
        assert (tail.lost_at is not None) == (state in (State.LEAVING, State.STRAY))
        assert (tail.twin is not None) == (state in (State.COPY, State.STRAY))
    else:
        assert (tail.twin is not None) == was_copy, "whether it was a copy is remembered"
    assert tail.over == (state in (State.ENDED, State.CLOSED))
    assert tail.readable == (state in (State.OPEN, State.LEAVING))
    assert tail.readable or not tail.behind(), "what is not read is not behind"


@pytest.mark.parametrize("state", State, ids=lambda s: s.value)
@pytest.mark.parametrize("move", Move, ids=lambda m: m.value)
def test_a_move_does_what_the_table_says_or_raises_and_changes_nothing(files: Files, state: State, move: Move) -> None:
    tail = files.make()
    for step in ROUTES[state]:
        files.do(tail, step)
    assert tail.state is state
    new = MOVES[move].get(state)
    if new is None:
        before = picture(tail)
        with pytest.raises(IllegalMove, match=f"is {state.value} and cannot {move.value}"):
            files.do(tail, move)
        assert picture(tail) == before
    else:
        was_copy = tail.twin is not None
        files.do(tail, move)
        assert tail.state is new
        check(tail, was_copy)


@given(moves=st.lists(st.sampled_from(list(Move)), max_size=12))
def test_every_way_through_the_table_keeps_what_holds_in_each_state(tmp_path_factory: Any, moves: list[Move]) -> None:
    files = Files(tmp_path_factory.mktemp("states"))
    try:
        tail, was_copy = files.make(), False
        for move in moves:
            try:
                files.do(tail, move)
            except IllegalMove:
                continue
            was_copy = tail.twin is not None
            check(tail, was_copy)
    finally:
        files.close()


def test_every_move_is_a_method_of_its_name_and_every_state_can_be_reached_and_ended() -> None:
    assert all(callable(getattr(Tail, move.value)) for move in Move)
    assert {state for table in MOVES.values() for state in table.values()} == set(State)
    assert set(MOVES) == set(Move)
    assert all(state in MOVES[Move.CLOSE] for state in State if state is not State.CLOSED)


def test_what_reading_needs_survives_the_moves(files: Files) -> None:
    tail = files.make()
    tail.start_at(0)
    tail.step(1, 1.0)
    assert (tail.fed, tail.at, tail.behind()) == (8, 8, False)
    tail.park()
    files.path.write_text("one\ntwo\nthr")
    files.reopen(tail)
    assert tail.at == 8
    tail.look(os.stat(files.path))
    tail.step(2, 2.0)
    tail.park()
    files.path.write_text("one\ntwo\nthree\n")
    files.reopen(tail)
    assert (tail.fed, tail.rest, tail.at) == (8, b"thr", 11)
    tail.look(os.stat(files.path))
    assert tail.behind() and tail.intact()
    tail.step(3, 3.0)
    assert tail.fed == 14
    copy = files.make()
    copy.wait_for(tail)
    assert not copy.behind(), "a copy is not read"
    known = tail.identity()
    tail.end()
    copy.take_over(known, known.offset)
    assert (copy.uid, copy.fed, copy.twin) == (tail.uid, 14, None)


def test_a_surrendered_file_goes_to_the_next_tail_open(files: Files) -> None:
    tail = files.make()
    fd = tail.surrender()
    assert os.fstat(fd).st_ino == tail.key[1]
    tail.close()
    assert os.fstat(fd).st_ino == tail.key[1], "closing the old one leaves it open"
    os.close(fd)


def written(path: Path) -> set[tuple[str, str]]:
    """Attributes that a file assigns on objects other than `self`: (attribute, source of the object)."""
    out = set()
    for node in ast.walk(ast.parse(path.read_text())):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and ast.unparse(part.value) != "self":
                    out.add((part.attr, ast.unparse(part.value)))
    return out


def test_only_a_tail_writes_its_fields(files: Files, tmp_path: Path) -> None:
    tail = files.make()
    fields = set(vars(tail)) | set(vars(tail.feed))
    assert {"state", "fd", "lost_at", "twin", "rest", "uid"} <= fields
    folder = Path(room.__file__).parent
    users = [path for path in folder.glob("*.py") if "Tail" in path.read_text()]
    assert {"tracker.py", "receiver.py", "files.py", "recovery.py"} <= {path.name for path in users}
    for path in users:
        found = {(attribute, name) for attribute, name in written(path) if attribute in fields}
        allowed = {("file_attributes", "self.feed")} if path.name == "tail.py" else set()
        assert found <= allowed, f"{path.name} writes {found}"
    example = tmp_path / "example.py"
    example.write_text("def f(tail):\n    fd, tail.fd = tail.fd, -1\n    tail.twin.rest += b''\n")
    assert written(example) == {("fd", "tail"), ("rest", "tail.twin")}, "the rule can fail"
