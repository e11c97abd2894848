"""The decisions about files against an obvious model: every line that is in a file at a poll is read, once, whatever happened to the file.

The disk is a dict of paths in memory and nothing is opened: the events come from there, `decide` says what is to be done, and the
files move between their states by the same table as the real ones.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kofagent.receivers.filelog import decide
from kofagent.receivers.filelog.decide import Appeared, Begin, Change, Changed, Copy, Inherit, Resume, Wait
from kofagent.receivers.filelog.identity import Identity
from kofagent.receivers.filelog.states import Move, State, after

HEAD, GUARD = 24, 16
READ = (State.OPEN, State.LEAVING)
NAMES = ["b", "c", "d"]


class Inode:
    """A file on the disk of the model."""

    numbers = count(1)

    def __init__(self, data: bytes = b"", packed: bool = False) -> None:
        self.number = next(self.numbers)
        self.data = data
        self.packed = packed
        self.version = 0
        self.permitted = True

    def write(self, data: bytes) -> None:
        self.data = data
        self.version += 1


class Tailed:
    """A file that is followed: what `decide` needs to know of it, and the moves of the table."""

    def __init__(self, path: str, inode: Inode) -> None:
        self.path, self.inode, self.state, self.uid = path, inode, State.OPEN, f"uid{inode.number}.{inode.version}"
        self.key, self.gzip = (1, inode.number), inode.packed
        self.size, self.version, self.head = len(inode.data), inode.version, inode.data[:HEAD]
        self.at = self.fed = self.raw = 0
        self.guard = b""
        self.held = False
        self.grown_at = 0.0
        self.lost_at: float | None = None
        self.mtime = self.deleted_ns = 0
        self.twin: Tailed | None = None

    def move(self, move: Move) -> None:
        self.state = after(self.path, self.state, move)

    def start(self, offset: int) -> None:
        self.at = self.fed = self.raw = offset
        self.guard = self.inode.data[max(0, offset - GUARD) : offset]

    def behind(self) -> bool:
        return self.state in READ and self.at < self.size

    def waits(self) -> bool:
        return False

    def identity(self) -> Identity:
        return Identity(
            self.uid, self.key, self.path, self.head, self.guard, self.at, 0, 0, False, None, self.gzip, self.size, 0, False
        )

    def intact(self) -> bool:
        data = self.inode.data
        if len(data) < self.at or not data.startswith(self.head):
            return False
        self.head = data[:HEAD]
        return data[max(0, self.at - GUARD) : self.at] == self.guard


def fits(file: Tailed, known: Identity) -> bool:
    """A fingerprint and the bytes before the offset, as far as the file goes."""
    data = file.inode.data
    if not known.head or not data.startswith(known.head):
        return False
    if len(data) >= known.offset:
        return data[: known.offset].endswith(known.guard)
    return known.key == file.key or (known.path != file.path and len(known.head) == HEAD)


def same_bytes(file: Tailed, twin: Tailed) -> bool:
    one, two = file.inode.data, twin.inode.data
    if not one or not two or not (file.gzip or twin.gzip or len(one) <= len(two)):
        return False
    size = min(len(one), len(two))
    return one[:size] == two[:size]


class Reader:
    """What the tracker does, on the disk of the model; reads all there is at each poll."""

    def __init__(self, disk: Disk, limit: int, closed: Iterable[Identity] = ()) -> None:
        self.disk = disk
        self.limit = limit
        self.tails: dict[tuple[int, int], Tailed] = {}
        self.closed = {known.uid: known for known in closed}
        self.got: list[bytes] = []

    def poll(self, now: float) -> None:
        seen: dict[tuple[int, int], list[str]] = {}
        for path, inode in sorted(self.disk.paths.items()):
            seen.setdefault((1, inode.number), []).append(path)
        fresh = []
        for key, paths in seen.items():
            tail = self.tails.get(key)
            if tail is not None and tail.lost_at is not None:
                tail.move(Move.COME_BACK)
                tail.lost_at = None
            if tail is None:
                fresh.append((key, paths[0]))
            elif self.differs(tail):
                self.look(tail, paths[0], now)
        for tail in list(self.tails.values()):
            here = seen.get(tail.key)
            if here is None:
                self.away(tail, now)
            elif tail.path not in here:
                tail.path = here[0]
        for _, path in decide.opening_order(fresh, self.closed.values()):
            self.open(path)
        for tail in list(self.tails.values()):
            if tail.twin is not None:
                self.copy(tail, tail.twin)
        for tail in self.tails.values():
            if tail.behind():
                self.read(tail, now)

    def differs(self, tail: Tailed) -> bool:
        return (tail.size, tail.version) != (len(tail.inode.data), tail.inode.version)

    def look(self, tail: Tailed, path: str, now: float) -> None:
        inode = tail.inode
        if tail.state is State.PARKED:
            if not inode.permitted or not self.room():
                return
            tail.move(Move.REOPEN)
        found = Changed(len(inode.data), tail.intact(), False)
        tail.size, tail.version = len(inode.data), inode.version
        match decide.change(tail, found, ""):
            case Change.RECONSIDER:
                tail.move(Move.STAND_ALONE)
                tail.twin, tail.head = None, inode.data[:HEAD]
                self.start(tail)
            case Change.REPLACE:
                lost_at = tail.lost_at
                tail.move(Move.SURRENDER)
                self.over(tail)
                new = self.tails[tail.key] = Tailed(path, inode)
                if lost_at is not None:
                    new.move(Move.LEAVE)
                    new.lost_at = lost_at

    def away(self, tail: Tailed, now: float) -> None:
        if tail.state is not State.PARKED:
            if tail.lost_at is None:
                tail.move(Move.LEAVE)
                tail.lost_at = now
            if self.differs(tail):
                self.look(tail, tail.path, now)
        if tail.state is not State.ENDED and decide.ends(tail, now):
            self.end(tail)

    def end(self, tail: Tailed) -> None:
        tail.move(Move.END)
        self.over(tail)

    def over(self, tail: Tailed) -> None:
        del self.tails[tail.key]
        if tail.twin is None:
            self.closed[tail.uid] = tail.identity()

    def room(self) -> bool:
        room = decide.make_room(self.tails.values(), self.limit)
        if room.park is not None:
            self.tails[room.park].move(Move.PARK)
        return room.free

    def open(self, path: str) -> None:
        inode = self.disk.paths[path]
        if inode.permitted and self.room():
            tail = Tailed(path, inode)
            self.tails[tail.key] = tail
            self.start(tail)

    def start(self, tail: Tailed) -> None:
        others = [other for other in self.tails.values() if other is not tail and other.state in READ]
        found = Appeared()
        if tail.head:
            found = Appeared(
                [
                    o
                    for o in others
                    if o.path == tail.path and tail.inode.data[: o.fed].endswith(o.guard) and tail.head.startswith(o.head)
                ],
                [known for known in reversed(self.closed.values()) if fits(tail, known)],
                [other for other in others if same_bytes(tail, other)],
            )
        match decide.start(tail, found, True):
            case Inherit(Tailed() as other):
                self.end(other)
                self.resume(tail, other.identity())
            case Resume(known):
                self.resume(tail, known)
            case Wait(Tailed() as twin):
                tail.move(Move.WAIT_FOR)
                tail.twin = twin
            case Begin(at_end):
                assert not at_end
                tail.start(0)

    def resume(self, tail: Tailed, known: Identity) -> None:
        self.closed.pop(known.uid, None)
        tail.uid = known.uid
        tail.start(decide.resume_offset(known, tail, ""))

    def copy(self, tail: Tailed, twin: Tailed) -> None:
        over = twin.state is State.ENDED
        match decide.copy(over, over or same_bytes(tail, twin)):
            case Copy.STAND_ALONE:
                tail.move(Move.STAND_ALONE)
                tail.twin, tail.head = None, tail.inode.data[:HEAD]
                tail.start(0)
            case Copy.TAKE_OVER:
                known = self.closed.pop(twin.uid, None) or twin.identity()
                tail.move(Move.TAKE_OVER)
                tail.twin, tail.head, tail.uid = None, tail.inode.data[:HEAD], known.uid
                tail.start(decide.take_over_offset(known, tail))

    def read(self, tail: Tailed, now: float) -> None:
        data = tail.inode.data[tail.at :]
        assert data.endswith(b"\n")
        self.got += data.splitlines()
        tail.start(len(tail.inode.data))
        tail.grown_at = now


class Disk:
    """Writers, and what they owe: lines that were in a file that could be read."""

    def __init__(self, crowded: bool) -> None:
        self.crowded = crowded
        self.paths: dict[str, Inode] = {}
        self.origin: dict[Inode, Inode] = {}
        self.numbers = count()
        self.copies = count()
        self.unseen: set[bytes] = set()
        self.may_miss: set[bytes] = set()
        self.may_double: set[bytes] = set()

    def lines(self, n: int) -> bytes:
        lines = [b"line %05d" % next(self.numbers) for _ in range(n)]
        self.unseen.update(lines)
        return b"".join(line + b"\n" for line in lines)

    def do(self, kind: str, name: str, n: int) -> None:
        inode = self.paths.get(name)
        if kind == "append":
            inode = self.paths.setdefault(name, inode or Inode())
            inode.write(inode.data + self.lines(n))
        elif inode is None:
            return
        elif kind == "rename":
            del self.paths[name]
            self.paths[self.beside(name)] = inode
        elif kind == "delete":
            self.gone(inode)
            del self.paths[name]
        elif kind in ("copy", "copytruncate"):
            self.copied(inode)
            copy = self.paths[self.beside(name)] = Inode(inode.data)
            if kind == "copytruncate":
                inode.write(b"")
            else:
                self.origin[copy] = inode
                # two files that nobody knows yet, and one goes on: they are two files
                self.may_double.update(line for line in inode.data.splitlines() if line in self.unseen)
        elif kind == "truncate":
            self.gone(inode)
            inode.write(b"")
        elif kind == "rewrite":
            self.gone(inode)
            inode.write(self.lines(n))
        elif kind == "replace":  # an editor's new file, renamed over the old one
            if not self.unseen.intersection(inode.data.splitlines()):  # else the old one is read on, and the new one as another
                self.paths[name] = Inode(inode.data + self.lines(n))
        elif kind == "compress":
            self.copied(inode)
            del self.paths[name]
            self.paths[self.beside(name)] = Inode(inode.data, packed=True)
        elif kind == "permission":
            inode.permitted = not inode.permitted

    def copied(self, inode: Inode) -> None:
        """With too many files the original may be parked: what is a copy of it, and of what, is not known for certain."""
        if inode in self.origin.values():  # two copies, of which either may be taken for the rest of the original
            self.may_double.update(inode.data.splitlines())
        if self.crowded:
            self.gone(inode)
            self.may_double.update(inode.data.splitlines())

    def restarted(self) -> None:
        """What a new reader cannot know: whose copy a file is when the original is gone, or cannot be opened now."""
        here = list(self.paths.values())
        for inode in here:
            origin = self.origin.get(inode)
            if not inode.permitted or (origin is not None and origin not in here):
                self.may_double.update(inode.data.splitlines())

    def beside(self, name: str) -> str:
        """A name that sorts before or behind the others."""
        n = next(self.copies)
        return f"{'az'[n % 2]}.{name}.{n}"

    def gone(self, inode: Inode) -> None:
        """Bytes that nobody may have had time to read."""
        self.may_miss.update(line for line in inode.data.splitlines() if line in self.unseen)

    def here(self) -> set[bytes]:
        return {line for inode in self.paths.values() if inode.permitted for line in inode.data.splitlines()}


NAME = st.sampled_from(NAMES)
OPERATIONS = st.one_of(
    st.tuples(st.just("append"), NAME, st.integers(1, 4)),
    st.tuples(st.just("append"), NAME, st.integers(1, 4)),
    st.tuples(
        st.sampled_from(["rename", "delete", "copy", "copytruncate", "truncate", "rewrite", "replace", "compress", "permission"]),
        NAME,
        st.integers(1, 4),
    ),
    st.tuples(st.just("poll"), st.sampled_from([0.2, 0.2, 12.0])),
    st.tuples(st.just("poll"), st.sampled_from([0.2, 0.2, 12.0])),
    st.tuples(st.just("restart")),
)


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("EXAMPLES", "1000")), deadline=None, derandomize="EXAMPLES" not in os.environ)
@given(st.lists(OPERATIONS, max_size=40), st.sampled_from([2, 100]))
def test_every_line_that_is_there_at_a_poll_is_read_once(operations: list[Any], limit: int) -> None:
    disk = Disk(crowded=limit < 10)
    reader = Reader(disk, limit)
    got: list[bytes] = []
    now = 0.0

    def poll(after: float) -> None:
        nonlocal now
        now += after
        if not reader.tails:
            disk.restarted()
        reader.poll(now)
        if limit > len(disk.paths) + len(reader.tails):
            missing = disk.here() - {*got, *reader.got} - disk.may_miss
            assert not missing, f"not read at the poll: {sorted(missing)[:3]}"
        disk.unseen.difference_update([*got, *reader.got])

    for kind, *what in operations:
        if kind == "poll":
            poll(what[0])
        elif kind == "restart":
            for tail in list(reader.tails.values()):
                reader.end(tail)
            got += reader.got
            reader = Reader(disk, limit, reader.closed.values())
        else:
            if kind == "replace":
                poll(0.2)
            disk.do(kind, *what)
            if kind == "replace":
                poll(0.2)  # where it is rotated at once, nobody knows what it replaced
    for inode in disk.paths.values():
        inode.permitted = True
    for _ in range(2 * len(disk.paths) + 4):
        poll(12.0)
    got += reader.got
    missing = disk.here() - set(got) - disk.may_miss
    assert not missing, f"never read: {sorted(missing)[:3]}"
    doubled = {line for line, n in Counter(got).items() if n > 1} - disk.may_double
    assert not doubled, f"twice: {sorted(doubled)[:3]}"
    assert all(line.startswith(b"line ") and len(line) == 10 for line in got), "cut in the middle of a line"


def known(uid: str, key: int, path: str, head: bytes = b"head", offset: int = 10) -> Identity:
    return Identity(uid, (1, key), path, head, b"", offset, 0, 0, False, None, False)


def tailed(path: str = "b", size: int = 20, packed: bool = False) -> Tailed:
    return Tailed(path, Inode(b"x" * size, packed))


def test_of_several_identities_that_fit_the_likeliest_is_taken() -> None:
    file = tailed()
    inode, name = known("inode", file.key[1], "other"), known("name", 0, "b")
    longer, further = known("longer", 0, "x", b"longer head"), known("further", 0, "x", offset=11)
    for best, *others in ([inode, name, longer, further], [name, longer, further], [longer, further], [further, known("", 0, "x")]):
        assert decide.start(file, Appeared(known=[*others, best]), True) == Resume(best)
        assert decide.start(file, Appeared(known=[best, *others]), True) == Resume(best)


def test_what_nothing_is_known_of_starts_as_the_option_says() -> None:
    file, other = tailed(), tailed("c")
    assert decide.start(file, Appeared(copies=[other]), False) == Begin(at_end=True)
    assert decide.start(file, Appeared(copies=[other]), True) == Wait(other)
    assert decide.start(file, Appeared(), True) == Begin(at_end=False)
    old = tailed("b")
    old.move(Move.LEAVE)
    assert decide.start(file, Appeared(copies=[old, other]), True) == Wait(other), "it took the place of the old one"


@pytest.mark.parametrize(
    ("on_truncate", "same_inode", "offset"),
    [("", True, 0), ("", False, 20), ("ignore", True, 30), ("read_new", True, 20), ("read_whole_file", False, 0)],
)
def test_a_known_file_that_is_shorter_now(on_truncate: str, same_inode: bool, offset: int) -> None:
    file = tailed(size=20)
    identity = known("uid", file.key[1] if same_inode else 0, "b", offset=30)
    assert decide.resume_offset(identity, file, on_truncate) == offset
    assert decide.resume_offset(identity._replace(offset=20), file, on_truncate) == 20
    assert decide.resume_offset(identity, tailed(size=20, packed=True), on_truncate) == 30, "its size says nothing"


@pytest.mark.parametrize(
    ("on_truncate", "starts", "size", "change"),
    [
        ("", True, 5, Change.REPLACE),
        ("read_whole_file", True, 5, Change.REPLACE),
        ("ignore", True, 5, Change.GO_ON),
        ("ignore", False, 5, Change.REPLACE),
        ("read_new", True, 5, Change.SKIP),
        ("read_new", True, 15, Change.GO_ON),
        ("read_new", False, 5, Change.REPLACE),
    ],
)
def test_a_truncated_file(on_truncate: str, starts: bool, size: int, change: Change) -> None:
    file = tailed()
    file.start(10)
    assert decide.change(file, Changed(size, False, starts), on_truncate) is change
    assert decide.change(file, Changed(size, True, starts), on_truncate) is Change.GO_ON


def test_a_copy_that_has_other_bytes_is_started_anew_as_long_as_a_path_leads_to_it() -> None:
    file = tailed()
    file.move(Move.WAIT_FOR)
    for on_truncate in ("", "ignore", "read_new"):
        assert decide.change(file, Changed(5, False, True), on_truncate) is Change.RECONSIDER
    file.move(Move.LEAVE)
    assert decide.change(file, Changed(5, False, True), "") is Change.GO_ON


def test_a_file_goes_on_where_the_one_it_replaced_was_left() -> None:
    def replaced(
        path: str = "b", fed: int = 10, size: int = 10, packed: bool = False, gone: bool = True, deleted_ns: int = 5
    ) -> Tailed:
        other = tailed(path, size, packed)
        other.deleted_ns = deleted_ns
        other.start(fed)
        if gone:
            other.move(Move.LEAVE)
        return other

    new = tailed("b", 20)
    new.mtime = 5
    good = replaced()
    assert decide.start(new, Appeared(replaced=[good]), True) == Inherit(good)
    wrong = {
        "another path": replaced(path="c"),
        "nothing was read": replaced(fed=0),
        "there is more to read": replaced(size=11),
        "the new one is shorter": replaced(fed=30, size=30),
        "compressed": replaced(packed=True),
        "still at its path": replaced(gone=False),
        "it was written to before the new one was": replaced(deleted_ns=4),
        "it was renamed": replaced(deleted_ns=0),
    }
    for why, other in wrong.items():
        assert decide.start(new, Appeared(replaced=[other]), True) == Begin(at_end=False), why


@pytest.mark.parametrize(
    ("over", "same", "what"),
    [(True, True, Copy.TAKE_OVER), (True, False, Copy.STAND_ALONE), (False, True, Copy.WAIT), (False, False, Copy.STAND_ALONE)],
)
def test_what_a_copy_does(over: bool, same: bool, what: Copy) -> None:
    assert decide.copy(over, same) is what


def test_compressed_files_are_replaced_only_where_they_are_shorter_than_what_was_read() -> None:
    file = tailed(packed=True)
    file.start(10)
    assert decide.change(file, Changed(10, True, True), "ignore") is Change.GO_ON
    assert decide.change(file, Changed(9, True, True), "ignore") is Change.REPLACE
    file.move(Move.LEAVE)
    assert decide.change(file, Changed(9, True, True), "") is Change.GO_ON, "nobody can tell any more"


def test_a_file_that_left_is_held_while_it_is_read_and_until_it_is_quiet() -> None:
    file = tailed(size=20)
    assert not decide.ends(file, 0.0)
    file.start(20)
    file.move(Move.LEAVE)
    file.lost_at, file.grown_at = 100.0, 105.0
    assert not decide.ends(file, 105.0 + decide.LOST_KEEP_S - 0.1)
    assert decide.ends(file, 105.0 + decide.LOST_KEEP_S)
    file.size += 1
    assert not decide.ends(file, 1000.0)
    parked = tailed()
    parked.move(Move.PARK)
    assert decide.ends(parked, 0.0)


def test_the_file_that_was_quiet_for_longest_is_parked() -> None:
    files = [tailed(f"{i}") for i in range(5)]
    for i, file in enumerate(files):
        file.start(20)
        file.grown_at = 10.0 - i
    assert decide.make_room(files, 6) == (True, None)
    files[4].size += 1  # behind
    files[3].held = True
    files[2].move(Move.LEAVE)
    assert decide.make_room(files, 5) == (True, files[1].key)
    files[1].move(Move.PARK)
    assert decide.make_room(files, 5) == (True, None), "parked ones are not open"
    assert decide.make_room(files, 4) == (True, files[0].key)
    files[0].move(Move.WAIT_FOR)
    assert decide.make_room(files, 4) == (False, None)


def test_files_that_are_on_record_are_opened_before_their_copies() -> None:
    fresh = [((1, 5), "a.copy"), ((1, 6), "b.log"), ((1, 7), "c.log"), ((1, 8), "d")]
    records = [known("1", 7, "elsewhere"), known("2", 0, "b.log")]
    assert decide.opening_order(fresh, records) == [fresh[2], fresh[1], fresh[0], fresh[3]]
    assert decide.opening_order(fresh, []) == fresh


def test_what_is_searched_for_at_start() -> None:
    records = [known("1", 1, "b", offset=5)._replace(mtime=50), known("2", 2, "b")._replace(mtime=70), known("3", 3, "gone")]
    found = {s.path: s for s in decide.searches_at_start(records, {"b": False, "new": False, "old": True}, 60, True, 999)}
    assert set(found) == {"b", "gone", "new"}, "nothing can have come and gone at the path of a file that went on"
    assert (found["b"].wanted, found["b"].known, found["b"].newer_than) == (records[:2], records[:2], 70)
    assert (found["gone"].wanted, found["gone"].newer_than) == ([records[2]], 999), "no time is on record"
    assert (found["new"].wanted, found["new"].newer_than) == ([], 60)
    resumed = decide.searches_at_start(records, {"b": True}, 60, True, 999)
    assert [s.newer_than for s in resumed] == [None, 999]
    assert {s.path for s in decide.searches_at_start(records, {"new": False}, 60, False, 999)} == {"b", "gone"}
    assert not decide.searches_at_start([], {"new": False}, 0, True, 999), "the first run ever"
