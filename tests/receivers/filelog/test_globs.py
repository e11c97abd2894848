"""Globs as upstream (doublestar) reads them, and the finder's cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kofagent.receivers.filelog.globs import Finder, Glob


@pytest.mark.parametrize(
    ("pattern", "path", "want"),
    [
        ("/var/log/pods/*/*/*.log", "/var/log/pods/ns_pod_uid/app/0.log", True),
        ("/var/log/pods/*/*/*.log", "/var/log/pods/ns_pod_uid/app/0.log.20250101", False),
        ("/var/log/pods/*/*/*.log", "/var/log/pods/app/0.log", False),
        ("/var/log/pods/*/otc-container/*.log", "/var/log/pods/x/otc-container/1.log", True),
        ("/a/**/*.log", "/a/x.log", True),
        ("/a/**/*.log", "/a/b/c/x.log", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/b/c", False),
        ("/a/b**.log", "/a/bcd.log", True),
        ("/a/b**.log", "/a/b/c.log", False),
        ("/a/?.log", "/a/x.log", True),
        ("/a/?.log", "/a/xy.log", False),
        ("/a/[a-c].log", "/a/b.log", True),
        ("/a/[^a-c].log", "/a/b.log", False),
        ("/a/[!a-c].log", "/a/d.log", True),
        ("/a/[]x].log", "/a/].log", True),
        ("/a/{b,c/d}/x", "/a/c/d/x", True),
        ("/a/{b,{c,d}e}.log", "/a/de.log", True),
        ("/a/x{,.1}.log", "/a/x.log", True),
        (r"/a/\*.log", "/a/*.log", True),
        (r"/a/\*.log", "/a/x.log", False),
        (r"/a/\{x\}", "/a/{x}", True),
        ("/a/*.log", "/a/.hidden.log", True),
        ("/a/x+y(1).log", "/a/x+y(1).log", True),
    ],
)
def test_patterns(pattern: str, path: str, want: bool) -> None:
    assert Glob(pattern).matches(path) is want


@pytest.mark.parametrize("pattern", ["", "/a/{b", "/a/b}", "/a/[b", "/a/[z-a]", "/a/b\\", "/a\0/b"])
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(ValueError, match="glob"):
        Glob(pattern)


def tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def old(root: Path) -> None:
    """Makes every directory look settled, so that listings are cached."""
    for directory, _, _ in os.walk(root):
        os.utime(directory, (1000, 1000))


def test_the_finder_agrees_with_the_patterns(tmp_path: Path) -> None:
    tree(tmp_path, "a.log", "b/a.log", "b/c/a.log", "b/c/a.txt", "b/.h/x.log", "d.log/inner.log", "e x/[1].log")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "b/loop").symlink_to(tmp_path)
    (tmp_path / "dangling.log").symlink_to(tmp_path / "nowhere")
    everything = [str(Path(d) / f) for d, _, files in os.walk(tmp_path) for f in files]
    for pattern in ("*.log", "**/*.log", "b/**", "*/*.log", "{a,b/a}.log", "b/c/a.log", "e x/*", r"e x/\[1\].log", "nothing/*.log"):
        found = Finder([f"{tmp_path}/{pattern}"], []).find()
        assert found == sorted(found)
        real = [p for p in found if "/link/" not in p and "/loop/" not in p]
        glob = Glob(f"{tmp_path}/{pattern}")
        assert real == sorted(p for p in everything if glob.matches(p)), pattern


def test_links_to_directories_are_followed_and_do_not_go_round(tmp_path: Path) -> None:
    tree(tmp_path, "real/a.log")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/up").symlink_to(tmp_path)
    found = Finder([f"{tmp_path}/**/*.log"], []).find()
    assert found == [f"{tmp_path}/link/a.log", f"{tmp_path}/real/a.log"]


def test_what_is_new_gone_or_renamed_is_seen_although_listings_are_cached(tmp_path: Path) -> None:
    tree(tmp_path, "p1/c/0.log", "p2/c/0.log")
    finder = Finder([f"{tmp_path}/*/*/*.log"], [f"{tmp_path}/p3/**"])
    want = [f"{tmp_path}/p1/c/0.log", f"{tmp_path}/p2/c/0.log"]
    old(tmp_path)
    assert finder.find() == finder.find() == want
    tree(tmp_path, "p2/c/1.log")
    assert finder.find() == [*want, f"{tmp_path}/p2/c/1.log"]
    old(tmp_path)
    tree(tmp_path, "p4/c/0.log", "p3/c/0.log")
    assert finder.find() == [*want, f"{tmp_path}/p2/c/1.log", f"{tmp_path}/p4/c/0.log"]
    old(tmp_path)
    finder.find()
    os.rename(tmp_path / "p2/c/1.log", tmp_path / "p2/c/2.log")
    assert f"{tmp_path}/p2/c/2.log" in finder.find()
    (tmp_path / "p1/c/0.log").unlink()
    assert f"{tmp_path}/p1/c/0.log" not in finder.find()


def test_a_root_that_comes_later(tmp_path: Path) -> None:
    finder = Finder([f"{tmp_path}/later/*.log"], [])
    assert finder.find() == finder.find() == []
    tree(tmp_path, "later/a.log")
    assert finder.find() == [f"{tmp_path}/later/a.log"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_root_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    tree(tmp_path, "x/a.log")
    (tmp_path / "x").chmod(0)
    finder = Finder([f"{tmp_path}/x/*.log"], [])
    try:
        assert finder.find() == []
        assert finder.errors == {f"{tmp_path}/x/": "Permission denied"}
    finally:
        (tmp_path / "x").chmod(0o700)
