"""The states of a tailed file, and the moves between them that are legal.

| state | at a path of `include` | open | is read |
|---|---|---|---|
| OPEN | yes | yes | yes |
| PARKED | yes | no: too many files are open | when it is open again |
| COPY | yes | yes | no: it holds the bytes of another file, its twin, that is read |
| LEAVING | no: renamed, deleted, left out | yes | to its end |
| STRAY | no | yes | no: a copy |
| ENDED | - | perhaps | no: what was read of it is to be flushed |
| CLOSED | - | no | no |
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What is done with a file."""

    OPEN = "open"
    PARKED = "parked"
    COPY = "copy"
    LEAVING = "leaving"
    STRAY = "stray"
    ENDED = "ended"
    CLOSED = "closed"


class Move(Enum):
    """What happens to a file. Each is a method of `Tail` of this name."""

    PARK = "park"
    REOPEN = "reopen"
    LEAVE = "leave"
    COME_BACK = "come_back"
    WAIT_FOR = "wait_for"
    STAND_ALONE = "stand_alone"
    TAKE_OVER = "take_over"
    SURRENDER = "surrender"
    END = "end"
    CLOSE = "close"


MOVES: dict[Move, dict[State, State]] = {
    Move.PARK: {State.OPEN: State.PARKED},
    Move.REOPEN: {State.PARKED: State.OPEN},
    Move.LEAVE: {State.OPEN: State.LEAVING, State.COPY: State.STRAY},
    Move.COME_BACK: {State.LEAVING: State.OPEN, State.STRAY: State.COPY},
    Move.WAIT_FOR: {State.OPEN: State.COPY, State.LEAVING: State.STRAY},
    Move.STAND_ALONE: {State.COPY: State.OPEN, State.STRAY: State.LEAVING},
    Move.TAKE_OVER: {State.COPY: State.OPEN, State.STRAY: State.LEAVING},
    Move.SURRENDER: {State.OPEN: State.ENDED, State.LEAVING: State.ENDED},
    Move.END: {
        State.OPEN: State.ENDED,
        State.PARKED: State.ENDED,
        State.COPY: State.ENDED,
        State.LEAVING: State.ENDED,
        State.STRAY: State.ENDED,
    },
    Move.CLOSE: {state: State.CLOSED for state in State if state is not State.CLOSED},
}
"""The state after a move, by the state before. A move that is not here raises `IllegalMove`."""

GONE = frozenset({State.LEAVING, State.STRAY})
"""States of files that no path leads to any more."""


class IllegalMove(RuntimeError):
    """A bug: a file was told to do what it cannot do in its state."""

    def __init__(self, path: str, state: State, move: Move) -> None:
        super().__init__(f"{path} is {state.value} and cannot {move.value}")


def after(path: str, state: State, move: Move) -> State:
    """The state of the file at `path` after a move; IllegalMove where the table has none."""
    new = MOVES[move].get(state)
    if new is None:
        raise IllegalMove(path, state, move)
    return new
