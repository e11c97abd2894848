"""The kubelet's rotation against a reader that stops, is killed and comes back at any time, held against a model.

The model is the contract: every line exactly once as long as nobody kills the reader, at least once with kills, and in the order in which
a container wrote it; unless its file was deleted before it was read: then a loss is counted, if the reader ever saw the file.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.receivers.filelog.support import Store, Tailing
from tests.receivers.filelog.test_recovery import killed
from tests.support.components import Sink
from tests.support.examples import examples

NAMES = ["a", "b"]
KEPT = 3
"""Rotated files that are kept of a container."""
NAME = st.sampled_from([*NAMES, NAMES[0]])
WRITING = st.one_of(
    st.tuples(st.just("append"), NAME, st.integers(1, 40)),
    st.tuples(st.just("append"), NAME, st.integers(1, 40)),
    st.tuples(st.just("rotate"), NAME),
    st.tuples(st.just("chat"), NAME, st.integers(1, 4)),
    st.tuples(st.just("remove"), NAME),
)
READING = st.one_of(
    st.tuples(st.just("poll"), st.sampled_from([0.2, 0.2, 12.0])),
    st.tuples(st.just("look"), st.integers(0, 3)),
    st.sampled_from([("hold",), ("release",)]),
)
RUN = st.tuples(
    st.lists(st.one_of(WRITING, READING), min_size=1, max_size=8),
    st.sampled_from([("stop",), ("kill",)]),
    st.lists(WRITING, min_size=1, max_size=4),
)
"""What happens while the reader runs, how it ends, what happens before it runs again."""


class Kubelet:
    """Containers whose files are rotated as the kubelet does, and what it knows of every line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.n = 0
        self.turn = 0
        self.pods = dict.fromkeys(NAMES, 0)
        self.written: dict[str, list[str]] = {}  # by container: its lines in order
        self.lives: dict[int, list[str]] = {}  # by inode of the file it was written to: its lines
        self.deleted: list[list[str]] = []  # the lines of files that are gone
        self.seen: set[str] = set()

    def folder(self, name: str) -> Path:
        return self.root / f"work_{name}-{self.pods[name]}_uid" / "main"

    def append(self, name: str, count: int) -> None:
        path = self.folder(name) / "0.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        pod = f"{name}{self.pods[name]}"
        lines = []
        for _ in range(count):
            self.n += 1
            lines.append(f"{self.n:06d} {pod} {'.' * (self.n % 50)};")
        with path.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
        self.written.setdefault(pod, []).extend(lines)
        self.of(path).extend(lines)

    def of(self, path: Path) -> list[str]:
        return self.lives.setdefault(path.stat().st_ino, [])

    def gone(self, path: Path) -> None:
        self.deleted.append(self.lives.pop(path.stat().st_ino, []))
        path.unlink()

    def rotate(self, name: str) -> None:
        folder = self.folder(name)
        path = folder / "0.log"
        if not path.exists() or not path.stat().st_size:
            return
        rotated = sorted(p for p in folder.iterdir() if p != path)
        for old in rotated[: max(0, len(rotated) - (KEPT - 1))]:
            self.gone(old)
        for plain in (p for p in rotated if p.exists() and p.suffix != ".gz"):
            packed, part = Path(f"{plain}.gz"), Path(f"{plain}.gz.tmp")
            part.write_bytes(gzip.compress(plain.read_bytes()))
            part.rename(packed)
            lines = self.lives.pop(plain.stat().st_ino, [])
            plain.unlink()
            self.of(packed).extend(lines)
        self.turn += 1
        path.rename(folder / f"0.log.20261121-{self.turn:06d}")
        path.touch()

    def chat(self, name: str, rotations: int) -> None:
        """Writes through some rotations."""
        for _ in range(rotations):
            self.append(name, 3)
            self.rotate(name)

    def remove(self, name: str) -> None:
        folder = self.folder(name)
        if folder.exists():
            for path in list(folder.iterdir()):
                self.gone(path)
            shutil.rmtree(folder.parent)
        self.pods[name] += 1

    def look(self) -> None:
        """The reader has looked at the disk: it has seen the files that are at their paths, and all rotated ones beside them."""
        for lines in self.lives.values():
            self.seen.update(lines)


async def run(operations: list[Any]) -> None:
    root = Path(tempfile.mkdtemp())
    store, kubelet = Store(), Kubelet(root)
    options = {"include": [f"{root}/*/*/*.log"], "fingerprint_size": 64}
    got: list[str] = []
    losses = kills = 0
    t: Tailing | None = None

    async def start() -> Tailing:
        t = Tailing(options, store=store, sink=Sink())
        await t.receiver.open()
        await t.poll()
        kubelet.look()
        return t

    def stopped(t: Tailing) -> int:
        got.extend(t.lines())
        return int(t.host.ledger.sum("kofagent_filelog_lost_files_total"))

    try:
        t = await start()
        for kind, *arguments in [*operations, ("start",)]:
            if kind in ("append", "rotate", "chat", "remove"):
                getattr(kubelet, kind)(*arguments)
            elif kind == "start" and t is None:
                t = await start()
            elif t is None:
                continue
            elif kind == "poll":
                await t.poll(arguments[0])
                kubelet.look()
            elif kind == "look":  # sees, and reads only a part
                t.now += 0.2
                t.receiver.look(t.now)
                kubelet.look()
                await t.receiver._save()
                for tail in list(t.receiver._ready)[: arguments[0]]:
                    if not t.receiver._step(tail):
                        t.receiver._ready.pop(tail, None)
            elif kind == "hold":
                t.sink.gate = t.sink.gate or asyncio.Event()
            elif kind in ("release", "stop") and t.sink.gate is not None:
                t.sink.gate.set()
                t.sink.gate = None
                await t.settle()
            if t is not None and kind == "kill":
                kills += 1
                await killed(t)
            elif t is not None and kind == "stop":
                await t.receiver.stop()
            if kind in ("kill", "stop") and t is not None:
                losses += stopped(t)
                t = None
        assert t is not None
        if t.sink.gate is not None:
            t.sink.gate.set()
            t.sink.gate = None
        for after in (0.2, 0.2, 12.0, 12.0):
            await t.poll(after)
        await t.receiver.stop()
        losses += stopped(t)
    finally:
        shutil.rmtree(root)
    counts = Counter(got)
    written = {line for lines in kubelet.written.values() for line in lines}
    assert not set(got) - written, "invented"
    if not kills:
        assert max(counts.values(), default=1) == 1, "twice without a kill"
    missing = written - set(got)
    deleted = {line for lines in kubelet.deleted for line in lines}
    assert missing <= deleted, f"lost: {sorted(missing - deleted)[:3]}"
    files = sum(1 for lines in kubelet.deleted if any(line in missing and line in kubelet.seen for line in lines))
    assert losses >= files, f"{files} files have lost lines, {losses} are counted"
    if not kills:
        first = list(dict.fromkeys(got))
        for pod, lines in kubelet.written.items():
            assert [line for line in first if line.split()[1] == pod] == [line for line in lines if line in counts], "out of order"


@settings(
    max_examples=examples(int(os.environ.get("EXAMPLES", "100"))), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(RUN, min_size=1, max_size=4), st.booleans())
def test_every_line_comes_or_is_counted(runs: list[Any], kills: bool) -> None:
    operations: list[Any] = []
    for running, end, down in runs:
        operations += [*running, end if kills else ("stop",), *down, ("start",)]
    asyncio.run(run(operations))
