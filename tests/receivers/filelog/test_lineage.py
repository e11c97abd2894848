"""What began at the end of a file and goes on in the next one of its path, or after a restart, is one record."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.receivers.filelog.support import Store, Tailing
from tests.receivers.filelog.test_recovery import killed
from tests.receivers.filelog.test_tailing import append

CONTAINER = {"operators": [{"type": "container", "add_metadata_from_filepath": False}]}
RECOMBINE = {
    "operators": [{"type": "recombine", "combine_field": "body", "is_first_entry": "body startsWith 'E'", "combine_with": ""}]
}
LAST = {"operators": [{"type": "recombine", "combine_field": "body", "is_last_entry": "body endsWith 'b'", "combine_with": ""}]}
MULTILINE = {"multiline": {"line_start_pattern": "^E"}}


def cri(tag: str, text: str, stream: str = "stdout") -> str:
    return f"2026-03-22T10:00:01.5Z {stream} {tag} {text}\n"


def docker(text: str) -> str:
    return json.dumps({"log": text, "stream": "stdout", "time": "2026-03-22T10:00:01.5Z"}) + "\n"


KINDS: dict[str, tuple[dict[str, Any], str, str, str, list[str]]] = {
    "container": (CONTAINER, cri("F", "Ewhole"), cri("P", "Ea"), cri("F", "b") + cri("F", "Enext"), ["Ewhole", "Eab", "Enext"]),
    "two streams": (
        CONTAINER,
        cri("F", "Ewhole"),
        cri("P", "Ea") + cri("P", "x", "stderr"),
        cri("F", "y", "stderr") + cri("F", "b") + cri("F", "Enext"),
        ["Ewhole", "xy", "Eab", "Enext"],
    ),
    "docker": (CONTAINER, docker("Ewhole\n"), docker("Ea"), docker("b\n") + docker("Enext\n"), ["Ewhole", "Eab", "Enext"]),
    "first entry": (RECOMBINE, "Ewhole\n", "Ea\n", "b\nEnext\nE\n", ["Ewhole", "Eab", "Enext"]),
    "last entry": (LAST, "Ewholeb\n", "Ea\n", "b\nEnextb\n", ["Ewholeb", "Eab", "Enextb"]),
    "multiline": (MULTILINE, "Ewhole\n", "Ea\n", "b\nEnext\nE", ["Ewhole", "Ea\nb", "Enext"]),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def rename(path: Path, after: str) -> None:
    path.rename(f"{path}.20260322-100003")
    path.write_text(after)


def truncate(path: Path, after: str) -> None:
    shutil.copy(path, f"{path}.1")
    os.truncate(path, 0)
    append(path, after)


def recreate(path: Path, after: str) -> None:
    path.unlink()
    path.write_text(after)


Change = Callable[[Path, str], None]
changes = pytest.mark.parametrize("change", [rename, truncate, recreate])


def tailing(tmp_path: Path, options: dict[str, Any], **more: Any) -> Tailing:
    return Tailing({"include": [f"{tmp_path}/a*" if more.pop("all", False) else f"{tmp_path}/a.log"], **options}, **more)


@kinds
@changes
@pytest.mark.parametrize("at_once", [True, False])
async def test_over_a_rotation(tmp_path: Path, kind: str, change: Change, at_once: bool) -> None:
    options, before, half, after, want = KINDS[kind]
    path = tmp_path / "a.log"
    store = Store()
    path.write_text(before + half)
    async with tailing(tmp_path, options, store=store) as t:
        await t.poll()
        change(path, after if at_once else "")
        await t.poll(0.1)
        if not at_once:
            append(path, after)
        await t.poll(0.1)
        assert t.lines() == want
        await t.poll(11)
        await t.poll()
        assert not t.receiver._owing
        assert t.lines()[: len(want)] == want
    async with tailing(tmp_path, options, store=store) as t:  # nothing is read again, now that all of it was delivered
        assert await t.poll() == []


@kinds
async def test_over_a_rotation_whose_old_file_is_still_included(tmp_path: Path, kind: str) -> None:
    options, before, half, after, want = KINDS[kind]
    path = tmp_path / "a.log"
    path.write_text(before + half)
    async with tailing(tmp_path, {**options, "include_file_path": True}, all=True) as t:
        await t.poll()
        path.rename(tmp_path / "a.log.1")
        path.write_text(after)
        await t.poll(0.1)
        assert t.lines() == want


@kinds
@pytest.mark.parametrize("crash", [True, False])
@pytest.mark.parametrize("change", [append, rename, truncate])
async def test_over_a_restart_with_storage(tmp_path: Path, kind: str, crash: bool, change: Change) -> None:
    options, before, half, after, want = KINDS[kind]
    path, store = tmp_path / "a.log", Store()
    path.write_text(before + half)
    t = tailing(tmp_path, options, store=store)
    await t.receiver.open()
    await t.poll()
    await t.poll()
    got = t.lines()
    await (killed(t) if crash else t.receiver.stop())
    assert t.lines() == got, "the half is not handed out"
    change(path, after)
    async with tailing(tmp_path, options, store=store) as t:
        await t.poll()
        await t.poll(0.1)
        assert got + t.lines() == want


async def test_the_half_is_sent_when_its_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kofagent.operators.types import container

    monkeypatch.setattr(container, "FORCE_FLUSH_NS", 0)
    path, store = tmp_path / "a.log", Store()
    path.write_text(cri("P", "a"))
    async with tailing(tmp_path, CONTAINER, store=store) as t:
        assert await t.poll() == ["a"]
    async with tailing(tmp_path, CONTAINER, store=store) as t:
        assert await t.poll() == []


async def test_a_restart_reads_again_from_the_first_line_that_waits(tmp_path: Path) -> None:
    path, store = tmp_path / "a.log", Store()
    path.write_text("\n  \n" + cri("F", "1") + "\n" + cri("F", "2") + cri("P", "a") + cri("F", "3", "stderr"))
    async with tailing(tmp_path, CONTAINER, store=store) as t:
        assert await t.poll() == ["1", "2", "3"]
    append(path, cri("F", "b"))
    async with tailing(tmp_path, CONTAINER, store=store) as t:
        assert await t.poll() == ["3", "ab"]  # what came between the halves is sent again


async def test_lines_are_not_joined_with_those_of_the_next_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("1\nhalf")
    async with tailing(tmp_path, {}) as t:
        assert await t.poll() == ["1"]
        os.truncate(path, 0)
        append(path, "new\n")
        await t.poll(0.1)
        assert t.lines() == ["1", "half", "new"]
