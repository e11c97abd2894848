"""Random writers against a model: every line comes exactly once, in order within a file, whatever happens to the files.

The model is the contract: a line is owed if it was in a file at some poll, or if its file was still there (renamed or deleted, then
held open) at the next one. Under copytruncate, to a new file or over the last copy, a line that came after the last poll before
the truncation is owed by the copy only if that is read.
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

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.receivers.filelog.support import Store, Tailing
from tests.support.examples import examples

NAMES = ["a", "b", "c"]
OPERATIONS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(NAMES), st.integers(1, 30)),
    st.tuples(st.just("partial"), st.sampled_from(NAMES)),
    st.tuples(st.just("rename"), st.sampled_from(NAMES)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES)),
    st.tuples(st.just("copytruncate"), st.sampled_from(NAMES)),
    st.tuples(st.just("overwrite"), st.sampled_from(NAMES)),
    st.tuples(st.just("truncate"), st.sampled_from(NAMES)),
    st.tuples(st.just("compress"), st.sampled_from(NAMES)),
    st.tuples(st.just("poll"), st.sampled_from([0.2, 0.2, 0.2, 1.0, 12.0])),
    st.tuples(st.just("restart")),
)


class Writer:
    """Writes numbered lines and knows what is owed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.n = 0
        self.rotation = 0
        self.order: dict[str, list[str]] = {}  # by file life: its lines in order
        self.life: dict[str, str] = {}
        self.open: dict[str, str] = {}  # the partial line of a file
        self.unseen: dict[str, list[str]] = {}  # lines not in the file at a poll yet
        self.copied: dict[str, list[str]] = {}  # lines that no poll has seen, in the copy that the next one overwrites
        self.may_miss: set[str] = set()

    def path(self, name: str) -> Path:
        return self.root / f"{name}.log"

    def write(self, name: str, text: str) -> None:
        with self.path(name).open("a") as file:
            file.write(text)

    def line(self, name: str) -> str:
        if name not in self.life:
            self.life[name] = f"{name}{self.n}"
        self.n += 1
        return f"{self.life[name]} {self.n} {'.' * (self.n % 40)};"

    def append(self, name: str, count: int) -> None:
        text = ""
        if name in self.open:
            text = "\n"
            self.owe(name, self.open.pop(name))
        for _ in range(count):
            line = self.line(name)
            text += line + "\n"
            self.owe(name, line)
        self.write(name, text)

    def owe(self, name: str, line: str) -> None:
        self.order.setdefault(self.life[name], []).append(line)
        self.unseen.setdefault(name, []).append(line)


async def run(operations: list[Any], matching: bool, durable: bool) -> None:
    root = Path(tempfile.mkdtemp())
    store = Store() if durable else None
    options = {
        "include": [f"{root}/*" if matching else f"{root}/?.log"],
        "compression": "auto" if matching else "",
        "force_flush_period": "0s",
        "fingerprint_size": 64,
    }
    writer = Writer(root)
    t = Tailing(options, store=store)
    await t.receiver.open()
    got: list[str] = []
    await t.poll()
    try:
        for operation in operations:
            kind = operation[0]
            if kind == "poll":
                got += await t.poll(operation[1])
                writer.unseen, writer.copied = {}, {}
                continue
            if kind == "restart":
                if not durable:
                    continue
                got += await t.poll()  # what was renamed before the stop is found again only if it was known
                writer.unseen = {}
                await t.receiver.stop()
                assert len(t.lines()) == len(set(t.lines())), "a stop sends nothing twice"
                t = Tailing(options, store=store)
                await t.receiver.open()
                continue
            name = operation[1]
            path = writer.path(name)
            if kind == "append":
                writer.append(name, operation[2])
            elif kind == "partial":
                # a line without its newline, which comes with the next thing that happens to the file
                if name not in writer.open:
                    half = writer.line(name) + "x"
                    writer.write(name, half)
                    writer.open[name] = half
            elif path.exists() and kind in ("rename", "delete", "compress"):
                finish_partial(writer, name)
                if name in writer.unseen and not await known(t, path):
                    got += await t.poll()  # a file nobody ever saw may go without a trace
                    writer.unseen = {}
                if kind == "compress" and matching:
                    await asyncio.sleep(0)
                    got += await t.poll()
                    writer.unseen = {}
                    (root / f"{name}.{writer.rotation}.gz").write_bytes(gzip.compress(path.read_bytes()))
                    path.unlink()
                elif kind == "delete":
                    path.unlink()
                else:
                    path.rename(root / f"{name}.{writer.rotation}")
                writer.rotation += 1
                writer.life.pop(name, None)
                writer.unseen.pop(name, None)
            elif kind == "overwrite" and not path.exists():
                writer.append(name, 3)
            elif path.exists() and kind in ("copytruncate", "overwrite", "truncate"):
                finish_partial(writer, name)
                if kind == "truncate" or not matching:
                    writer.may_miss.update(writer.unseen.pop(name, []))
                elif name in writer.unseen and not await known(t, path):
                    got += await t.poll()
                    writer.unseen = {}
                if kind == "copytruncate":
                    shutil.copy(path, root / f"{name}.{writer.rotation}")
                    writer.rotation += 1
                elif kind == "overwrite":
                    writer.may_miss.update(writer.copied.get(name, []))
                    shutil.copy(path, root / f"{name}.log.1")
                    writer.copied[name] = writer.unseen.pop(name, [])
                os.truncate(path, 0)
                writer.life.pop(name, None)
                if kind == "overwrite":
                    writer.append(name, 2)
        for name in NAMES:
            finish_partial(writer, name)
        for after in (0.2, 12.0, 12.0, 12.0):
            got += await t.poll(after)
    finally:
        await t.receiver.stop()
        shutil.rmtree(root)
    owed = [line for lines in writer.order.values() for line in lines]
    missing = set(owed) - set(got) - writer.may_miss
    assert not missing, f"lost: {sorted(missing)[:5]}"
    assert not set(got) - set(owed), f"invented: {sorted(set(got) - set(owed))[:5]}"
    doubled = [line for line, n in Counter(got).items() if n > 1]
    assert not doubled, f"twice: {doubled[:5]}"
    for life, lines in writer.order.items():
        mine = [line for line in got if line.split(" ", 1)[0] == life]
        assert mine == [line for line in lines if line in set(mine)], "out of order"


def finish_partial(writer: Writer, name: str) -> None:
    if name in writer.open:
        line = writer.open.pop(name)
        writer.write(name, "\n")
        writer.owe(name, line)


async def known(t: Tailing, path: Path) -> bool:
    status = path.stat()
    return (status.st_dev, status.st_ino) in t.receiver._tracker.tails


@pytest.mark.parametrize("durable", [True, False])
def test_a_copy_is_known_in_the_poll_that_ends_the_original(durable: bool) -> None:
    """Also when there were more polls before than bytes alone tell a closed file."""
    operations = [("append", "a", 1), ("poll", 0.2), ("rename", "a"), ("append", "a", 1), ("poll", 0.2), ("copytruncate", "a")]
    asyncio.run(run(operations, True, durable))


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("matching", [True, False])
def test_a_copy_over_the_last_one_is_the_next_copy(matching: bool, durable: bool) -> None:
    turn = [("overwrite", "a"), ("poll", 0.2)]
    asyncio.run(
        run([("append", "a", 3), ("poll", 0.2), *turn, *turn, ("restart",), *turn, ("poll", 12.0), *turn], matching, durable)
    )


@pytest.mark.slow
@settings(
    max_examples=examples(int(os.environ.get("EXAMPLES", "150"))), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(OPERATIONS, max_size=30), st.booleans(), st.booleans())
def test_every_line_once_and_in_order(operations: list[Any], matching: bool, durable: bool) -> None:
    asyncio.run(run(operations, matching, durable))
