"""A watched file: read again when it changes, as Kubernetes changes mounted Secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kofagent.net.watched_file import LIMIT, WatchedFile


def test_a_secret_that_is_replaced_by_its_symlink(tmp_path: Path) -> None:
    for name, text in (("v1", "one"), ("v2", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(text)
    (tmp_path / "data").symlink_to("v1")
    file = WatchedFile(str(tmp_path / "data" / "token"), interval=0)
    assert (file.read(), file.read(), file.version) == (b"one", b"one", 1)
    (tmp_path / "new").symlink_to("v2")
    os.replace(tmp_path / "new", tmp_path / "data")
    assert (file.read(), file.version) == (b"two", 2)


def test_trouble_keeps_the_last_content(tmp_path: Path) -> None:
    path = tmp_path / "token"
    file = WatchedFile(str(path), interval=0)
    with pytest.raises(FileNotFoundError):
        file.read()
    path.write_bytes(b"one")
    assert file.read() == b"one" and file.error is None
    path.write_bytes(b"x" * (LIMIT + 1))
    assert file.read() == b"one" and "more than" in (file.error or "")
    path.unlink()
    assert file.read() == b"one" and file.error == f"{path}: No such file or directory"


def test_the_file_system_is_not_asked_for_each_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"one")
    file = WatchedFile(str(path), interval=3600)
    file.read()
    path.write_bytes(b"three")
    assert file.read() == b"one"
