"""What is to be done with a file, given its state and what was found on the disk. No I/O.

`find.py` looks at the disk and says what it found; the functions here decide; `tracker.py` carries it out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from kofagent.receivers.filelog.identity import Identity, Key
from kofagent.receivers.filelog.states import GONE, State

LOST_KEEP_S = 10.0
"""A file that was renamed away or deleted is held open until it was quiet for this long: its writer may not know yet."""


class File(Protocol):
    """What is decided about: the part of a `Tail` that decisions need."""

    @property
    def path(self) -> str: ...
    @property
    def key(self) -> Key: ...
    @property
    def state(self) -> State: ...
    @property
    def gzip(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def at(self) -> int: ...
    @property
    def raw(self) -> int: ...
    @property
    def fed(self) -> int: ...
    @property
    def held(self) -> bool: ...
    @property
    def grown_at(self) -> float: ...
    @property
    def lost_at(self) -> float | None: ...
    @property
    def deleted_ns(self) -> int: ...
    @property
    def mtime(self) -> int: ...
    def behind(self) -> bool: ...
    def waits(self) -> bool: ...


# A file that is open has another size or time than at the last look.


class Changed(NamedTuple):
    """What was found in it."""

    size: int
    intact: bool
    """It is long enough, and holds before the offset what was read from there."""
    starts_as_before: bool
    """Its first bytes are those of its fingerprint."""


class Change(Enum):
    """What is done about it."""

    GO_ON = "continue at the offset"
    SKIP = "read only what comes from now on"
    RECONSIDER = "a copy has other bytes: start it like a new file"
    REPLACE = "the bytes are another file's: end this one and read a new one from the beginning"


def change(file: File, found: Changed, on_truncate: str) -> Change:
    """What to do with a file that changed; `on_truncate` is the option."""
    if found.intact and not file.gzip:
        return Change.GO_ON
    state = file.state
    copy = state in (State.COPY, State.STRAY)
    if file.gzip:
        if state in GONE or found.size >= file.raw:
            return Change.GO_ON
    elif state is State.STRAY:
        return Change.GO_ON
    if copy:
        return Change.RECONSIDER
    # Upstream means by truncated: shorter, and it starts as before; else it is a new file.
    if on_truncate in ("ignore", "read_new") and not file.gzip and found.starts_as_before:
        return Change.SKIP if on_truncate == "read_new" and found.size < file.at else Change.GO_ON
    return Change.REPLACE


# No path leads to a file any more.


def ends(file: File, now: float) -> bool:
    """True when a file that left needs to be held open no longer: nothing to read, and quiet for long enough."""
    if file.state is State.PARKED:
        return True
    since = now if file.lost_at is None else file.lost_at
    return not (file.behind() or file.waits() or now - max(since, file.grown_at) < LOST_KEEP_S)


# A file that was not open before.


class Appeared(NamedTuple):
    """What was found in it."""

    replaced: Sequence[File] = ()
    """Open files whose bytes, as far as they were fed, it starts with."""
    known: Sequence[Identity] = ()
    """Identities that fit it, the latest first."""
    copies: Sequence[File] = ()
    """Open files that hold the same bytes as far as both go."""


class Inherit(NamedTuple):
    """An editor wrote it and renamed it over the other file, which that deleted: it continues where that one was left."""

    other: File


class Resume(NamedTuple):
    """It was read before: it continues where it was left."""

    known: Identity


class Wait(NamedTuple):
    """It is a copy of a file that is read."""

    twin: File


class Begin(NamedTuple):
    """It is new."""

    at_end: bool


Start = Inherit | Resume | Wait | Begin


def start(file: File, found: Appeared, from_beginning: bool) -> Start:
    """Where reading starts in a file; `from_beginning`: also where nothing is known of it."""
    for other in found.replaced:
        if (
            other.state is State.LEAVING
            and other.path == file.path
            and file.mtime <= other.deleted_ns  # what comes later is written anew, even if it begins the same
            and other.fed
            and not (file.gzip or other.gzip)
            and file.size >= other.fed
            and not other.behind()
        ):
            return Inherit(other)
    if found.known:
        return Resume(max(found.known, key=lambda known: rank(known, file)))
    if not from_beginning:
        return Begin(at_end=True)
    for other in found.copies:
        # One that took another's place is a new file, even if it starts the same.
        if other.state in (State.OPEN, State.LEAVING) and not (other.path == file.path and other.state is State.LEAVING):
            return Wait(other)
    return Begin(at_end=False)


def rank(known: Identity, file: File) -> tuple[bool, bool, int, int]:
    """The larger, the more likely it is that this identity is the file's, of several that fit."""
    return known.key == file.key, known.path == file.path, len(known.head), known.offset


def resume_offset(known: Identity, file: File, on_truncate: str) -> int:
    """Where a known file continues; it may be shorter than it was."""
    if file.gzip or known.offset <= file.size:
        return known.offset
    choice = on_truncate or ("read_whole_file" if known.key == file.key else "read_new")
    return {"read_whole_file": 0, "read_new": file.size}.get(choice, known.offset)


def opening_order(fresh: Sequence[tuple[Key, str]], known: Iterable[Identity]) -> Sequence[tuple[Key, str]]:
    """New files, by device and inode and path, in the order in which to open them.

    A file that is known by its inode or path comes first: it claims its identity before a copy of it does.
    """
    keys, paths = set(), set()
    for identity in known:
        keys.add(identity.key)
        paths.add(identity.path)
    return sorted(fresh, key=lambda file: (file[0] not in keys, file[1] not in paths))


# A file that waits as a copy of another.


class Copy(Enum):
    """What is done with it."""

    WAIT = "wait on"
    STAND_ALONE = "it differs: read it from the beginning"
    TAKE_OVER = "its twin ended: continue where that was"


def copy(twin_over: bool, same: bool) -> Copy:
    """What to do with a copy; `same`: it holds the bytes of its twin, or what was read of that, as far as both go."""
    if not same:
        return Copy.STAND_ALONE
    return Copy.TAKE_OVER if twin_over else Copy.WAIT


def take_over_offset(known: Identity, file: File) -> int:
    """Where a copy continues: what was read of the original need not be read again."""
    return known.offset if file.gzip else min(known.offset, file.size)


# Too many files are open.


class Room(NamedTuple):
    """Whether one more file may be opened, and which one is parked for it."""

    free: bool
    park: Key | None = None


def make_room(files: Collection[File], limit: int) -> Room:
    """Room for one more file, among at most `limit` open ones: the one that was quiet for longest is parked."""
    if len(files) < limit:
        return Room(True)
    is_open = [file for file in files if file.state is not State.PARKED]
    if len(is_open) < limit:
        return Room(True)
    quiet = [file for file in is_open if file.state is State.OPEN and not file.behind() and not file.held]
    if not quiet:
        return Room(False)
    return Room(True, min(quiet, key=lambda file: file.grown_at).key)


# Files that came and went at a path between two polls.


class Search(NamedTuple):
    """Rotated files of `path` to look for."""

    path: str
    wanted: Sequence[Identity]
    """Files that were not read to their ends."""
    known: Sequence[Identity]
    """Files that were at this path at some time."""
    newer_than: int | None
    """Unknown files that were written to since (ns) are read, too; None: no file can have come and gone unseen."""


def searches_at_start(
    closed: Iterable[Identity], present: dict[str, bool], newest: int, from_beginning: bool, never: int
) -> list[Search]:
    """What to look for at the first poll: files that an earlier run did not finish, and files that came and went since.

    `present`: the paths with a file now, and whether that was resumed. `newest`: when an earlier run last saw a file change
    (ns; 0: there was none). `never`: a time after which nothing was written.
    """
    by_path: dict[str, list[Identity]] = {}
    for identity in closed:
        by_path.setdefault(identity.path, []).append(identity)
    if newest and from_beginning:
        for path, resumed in present.items():
            if not resumed:  # at a new path, too, files may have come and gone
                by_path.setdefault(path, [])
    out = []
    for path, identities in by_path.items():
        newer_than = None
        if not present.get(path, False):
            newer_than = max((i.mtime for i in identities), default=newest) or never
        out.append(Search(path, identities, identities, newer_than))
    return out
