"""`link_targets`: links are followed only to where logs are kept, whoever makes them, and whenever."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from kofagent.receivers.filelog.globs import Glob
from tests.receivers.filelog.support import Store, Tailing
from tests.receivers.filelog.test_tailing import append, unreadable


@pytest.mark.parametrize(
    ("pattern", "roots"),
    [
        ("/var/log/pods/*/*/*.log", ["/var/log/pods"]),
        ("/var/log/*.log", ["/var/log"]),
        ("/var/log/messages", ["/var/log"]),
        ("/var/{log,tmp}/x", ["/var/log", "/var/tmp"]),
        ("/**", ["/"]),
        ("/a", ["/"]),
        ("*.log", ["."]),
        ("a/b*/c", ["a"]),
        (r"/a\*b/c", ["/"]),
    ],
)
def test_what_include_names_up_to_its_first_wildcard(pattern: str, roots: list[str]) -> None:
    assert Glob(pattern).roots() == roots


class Node:
    """Pods' logs, Docker's files, and secrets beside them."""

    def __init__(self, tmp_path: Path, **options: Any) -> None:
        self.pods, self.docker, self.secrets = (tmp_path / name for name in ("pods", "docker", "secrets"))
        for folder in (self.pods / "a", self.docker, self.secrets):
            folder.mkdir(parents=True)
        self.secret = self.secrets / "shadow"
        self.secret.write_text("secret\n")
        self.options = {"include": [f"{self.pods}/*/*.log"], "link_targets": [str(self.docker)], **options}

    def tailing(self, store: Store | None = None) -> Tailing:
        return Tailing(self.options, store=store)


async def test_files_are_read_where_logs_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = Node(tmp_path)
    (node.pods / "a" / "file.log").write_text("file\n")
    (node.docker / "json.log").write_text("docker\n")
    (node.pods / "a" / "docker.log").symlink_to(node.docker / "json.log")
    (node.pods / "a" / "beside.log").symlink_to(node.pods / "a" / "file2")
    (node.pods / "a" / "file2").write_text("beside\n")
    (node.pods / "a" / "evil.log").symlink_to(node.secret)
    (node.pods / "b").symlink_to(node.secrets)
    (node.secrets / "x.log").write_text("secret\n")
    (node.docker / "onward").symlink_to(node.secrets)
    (node.pods / "a" / "far.log").symlink_to(node.docker / "onward" / "x.log")
    (tmp_path / "pods-of-others").mkdir()
    (tmp_path / "pods-of-others" / "x.log").write_text("secret\n")
    (node.pods / "a" / "alike.log").symlink_to(tmp_path / "pods-of-others" / "x.log")
    async with node.tailing() as t:
        assert sorted(await t.poll()) == ["beside", "docker", "file"]
        await t.poll()
        assert unreadable(t, "outside") == 3, "one of them through two links"
        assert f"cannot read {node.pods}/a/evil.log: a link leads out of the directories" in caplog.text
        (node.pods / "a" / "evil.log").unlink()
        (node.pods / "a" / "evil.log").write_text("mine\n")
        assert await t.poll() == ["mine"]


async def test_without_the_option_links_lead_anywhere(tmp_path: Path) -> None:
    node = Node(tmp_path, link_targets=None)
    (node.pods / "a" / "evil.log").symlink_to(node.secret)
    async with node.tailing() as t:
        assert await t.poll() == ["secret"]


async def test_a_folder_of_logs_that_is_a_link_itself(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (tmp_path / "log").symlink_to(node.pods)
    (node.pods / "a" / "file.log").write_text("file\n")
    node.options = {"include": [f"{tmp_path}/log/*/*.log"], "link_targets": []}
    async with node.tailing() as t:
        assert await t.poll() == ["file"]


async def test_a_link_that_is_pointed_elsewhere_later(tmp_path: Path) -> None:
    node, link = Node(tmp_path), tmp_path / "pods" / "a" / "0.log"
    (node.docker / "json.log").write_text("1\n")
    link.symlink_to(node.docker / "json.log")
    async with node.tailing() as t:
        assert await t.poll() == ["1"]
        link.unlink()
        link.symlink_to(node.secret)
        assert await t.poll() == []
        assert unreadable(t, "outside") == 1
        append(node.secret, "more\n")
        assert await t.poll(11) == []


async def test_a_rotated_file_that_is_exchanged_for_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the listing, which leaves out links, and the opening."""
    node, path, store = Node(tmp_path), tmp_path / "pods" / "a" / "0.log", Store()
    path.write_text("1\n")
    async with node.tailing(store) as t:
        assert await t.poll() == ["1"]
    rotated = path.rename(f"{path}.20261121-100000")
    node.secret.write_bytes(gzip.compress(b"1\nsecret\n"))
    real, exchanged = os.open, []

    def exchange(file: str, *arguments: int) -> int:
        if str(file) == str(rotated) and not exchanged:
            rotated.unlink()
            rotated.symlink_to(node.secret)
            exchanged.append(file)
        return real(file, *arguments)

    monkeypatch.setattr(os, "open", exchange)
    async with node.tailing(store) as t:
        assert await t.poll() == []
        assert exchanged and unreadable(t, "outside") == 1
