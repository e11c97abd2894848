"""Reading files: where it starts, what becomes an entry, what is said of the file."""

from __future__ import annotations

import fcntl
import gzip
import os
import pwd
import re
from pathlib import Path
from typing import Any

import pytest

from kofagent.operators import build as build_module
from kofagent.operators.catalog import OPERATORS
from kofagent.operators.entry import Entry
from kofagent.operators.operator import Run, Transformer
from kofagent.operators.options import TransformerConfig
from kofagent.receivers.filelog.config import Config
from tests.receivers.filelog.support import Store, Tailing, attributes


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def log(tmp_path: Path, **options: Any) -> Tailing:
    return Tailing({"include": [f"{tmp_path}/*.log"], **options})


def unreadable(t: Tailing, reason: str = "unreadable") -> float:
    return t.host.ledger.total("kofagent_filelog_unreadable_files_total", receiver="filelog", reason=reason)


async def test_lines_become_records_with_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["one", "two"]
        assert [attributes(r) for r in t.records()] == [{"log.file.name": "a.log"}] * 2
        assert t.host.ledger.total("otelcol_receiver_accepted_log_records_total", receiver="filelog", transport="") == 2


async def test_start_at_end_reads_what_is_added_and_whole_files_that_come_later(tmp_path: Path) -> None:
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    old.write_text("before\n")
    async with log(tmp_path, start_at="end") as t:
        assert await t.poll() == []
        append(old, "after\n")
        new.write_text("first of new\n")
        assert sorted(await t.poll()) == ["after", "first of new"]


async def test_what_is_added_comes_with_the_next_poll_in_a_directory_that_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("first\n")
    os.utime(tmp_path, (0, 0))  # listed long after it changed: from now on most polls compare sizes only
    async with log(tmp_path) as t:
        assert await t.poll() == ["first"]
        for n in range(7):
            append(path, f"{n}\n")
            assert await t.poll() == [str(n)]
            assert await t.poll() == []


@pytest.mark.parametrize("store", [Store(), None])
async def test_nothing_is_archived_without_storage(store: Store | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Tailing({"include": [f"{tmp_path}/*.log"], "polls_to_archive": 2}, store=store):
        assert ("polls_to_archive needs storage" in caplog.text) == (store is None)


async def test_empty_files_and_empty_lines_give_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    async with log(tmp_path) as t:
        assert await t.poll() == []
        append(path, "\n\n \n\t\nx\n\n")
        assert await t.poll() == ["x"]


@pytest.mark.parametrize(
    ("leading", "trailing", "want"),
    [
        (False, False, ["a b", "c", "d"]),
        (True, False, [" a b", "\tc", "d"]),
        (False, True, ["a b  ", "c", "d"]),
        (True, True, [" a b  ", "\tc", "d"]),
    ],
)
async def test_white_space_and_carriage_returns(tmp_path: Path, leading: bool, trailing: bool, want: list[str]) -> None:
    (tmp_path / "a.log").write_bytes(b" a b  \r\n\tc\r\nd\n\r\n")
    async with log(tmp_path, preserve_leading_whitespaces=leading, preserve_trailing_whitespaces=trailing) as t:
        assert await t.poll() == want


async def test_a_partial_line_waits_for_its_end_and_is_sent_after_the_flush_period(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("whole\npar")
    async with log(tmp_path) as t:
        assert await t.poll() == ["whole"]
        append(path, "tial\nrest")
        assert await t.poll() == ["partial"]
        assert await t.poll(0.2) == []
        assert await t.poll(0.4) == ["rest"]
        append(path, " of it\n")
        assert await t.poll() == ["of it"]


async def test_a_flush_period_of_0_never_sends_a_partial_line(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("par")
    async with log(tmp_path, force_flush_period="0s") as t:
        await t.poll()
        assert await t.poll(3600) == []


async def test_unicode_and_what_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes("gr\u00fc\u00df \U0001f600\n".encode() + b"\xff\xe2\x82x\nok\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["gr\u00fc\u00df \U0001f600", "\ufffd\ufffdx", "ok"]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("utf-16le", "utf-16-le"),
        ("UTF-16BE", "utf-16-be"),
        ("utf-16", "utf-16-le"),
        ("big5", "big5"),
        ("gb18030", "gb18030"),
        ("shift_jis", "shift_jis"),
        ("iso-8859-1", "latin-1"),
        ("windows-1252", "cp1252"),
        ("utf8", "utf-8"),
    ],
)
async def test_encodings(tmp_path: Path, name: str, codec: str) -> None:
    chinese = "\u00e9t\u00e9" if codec in ("latin-1", "cp1252") else "\u4e2d\u6587"
    words = ["one", " two ", chinese, "\u0a0a" * 3 if "utf" in codec else "x"]  # U+0A0A: newline bytes in UTF-16
    path = tmp_path / "a.log"
    data = "".join(w + "\r\n" for w in words).encode(codec)
    async with log(tmp_path, encoding=name) as t:
        got = []
        for at in range(0, len(data), 7):  # cut everywhere, also inside a character
            append(path, data[at : at + 7])
            got += await t.poll(0.01)
        assert got == [w.strip() for w in words]


async def test_lines_over_max_log_size_are_split_or_truncated(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x" * 25 + "\nshort\n" + "y" * 10 + "\n" + "z" * 300000 + "\nend\n")
    async with log(tmp_path, max_log_size=10) as t:
        got = await t.poll()
        assert got[:5] == ["x" * 10, "x" * 10, "x" * 5, "short", "y" * 10]
        assert got[5:-1] == ["z" * 10] * 30000
        assert got[-1] == "end"
    async with log(tmp_path, max_log_size=10, max_log_size_behavior="truncate") as t:
        assert await t.poll() == ["x" * 10, "short", "y" * 10, "z" * 10, "end"]


async def test_a_line_longer_than_a_chunk_and_a_split_that_cuts_no_character(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("\u20ac" * 100000 + "\nshort\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["\u20ac" * 100000, "short"]
    async with log(tmp_path, max_log_size=1000) as t:
        got = await t.poll()
        assert "".join(got[:-1]) == "\u20ac" * 100000
        assert all(len(g.encode()) <= 1000 for g in got)


async def test_truncating_goes_on_over_polls(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    async with log(tmp_path, max_log_size=10, max_log_size_behavior="truncate") as t:
        got = []
        for piece in ["0123456", "789abc", "def", "ghi\nnext", "\n"]:
            append(path, piece)
            got += await t.poll(0.01)
        assert got == ["0123456789", "next"]


async def test_nop_encoding_takes_bytes_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b" a\nb \n")
    async with log(tmp_path, encoding="nop") as t:
        assert await t.poll() == [b" a\nb \n"]
        append(path, b"more")
        assert await t.poll() == [b"more"]


async def test_raw_utf8_leaves_what_is_invalid_as_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"ok\n\xff x\n")
    async with log(tmp_path, encoding="utf-8-raw") as t:
        assert await t.poll() == ["ok", b"\xff x"]
        append(path, "gr\u00fc\u00df\n")
        assert await t.poll() == ["gr\u00fc\u00df"]


@pytest.mark.parametrize(
    ("multiline", "text", "want", "rest"),
    [
        ({"line_start_pattern": "^E"}, "junk\nE1\n at x\n at y\nE2\nE3\n z\n", ["junk", "E1\n at x\n at y", "E2"], "E3\n z"),
        ({"line_start_pattern": "LOG(S|E)", "omit_pattern": True}, "LOGSa LOGEb\nLOGSc", ["a", "b"], "LOGSc"),
        ({"line_end_pattern": "END$"}, "a\nb END\nc END\nd", ["a\nb END", "c END"], "d"),
        ({"line_end_pattern": ";", "omit_pattern": True}, "a;b\n;c", ["a", "b"], "c"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16le", "big5"])
@pytest.mark.parametrize("step", [3, 1000])
async def test_multiline(
    tmp_path: Path, multiline: dict[str, Any], text: str, want: list[str], rest: str, encoding: str, step: int
) -> None:
    data = text.encode(encoding)
    path = tmp_path / "a.log"
    # a match that touches the end is taken as it is, so only patterns that cannot grow are fed byte by byte
    async with log(tmp_path, multiline=multiline, encoding=encoding) as t:
        got = []
        for at in range(0, len(data), step):
            append(path, data[at : at + step])
            got += await t.poll(0.01)
        assert got == want
        assert await t.poll(1) == [rest]


async def test_multiline_entries_over_max_log_size(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("E" + "1" * 14 + "\nE2\nE3\n")
    async with log(tmp_path, multiline={"line_start_pattern": "^E"}, max_log_size=10) as t:
        assert await t.poll() == ["E111111111", "11111", "E2"]


async def test_record_numbers_and_offsets(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\n\n  three\n")
    async with log(tmp_path, include_file_record_number=True, include_file_record_offset=True, include_file_name=False) as t:
        await t.poll()
        append(path, "four\n")
        await t.poll()
        assert [attributes(r) for r in t.records()] == [
            {"log.file.record_number": 1, "log.file.record_offset": 0},
            {"log.file.record_number": 3, "log.file.record_offset": 5},
            {"log.file.record_number": 4, "log.file.record_offset": 13},
        ]


async def test_what_is_said_of_a_file(tmp_path: Path) -> None:
    real = tmp_path / "real.txt"
    real.write_text("x\n")
    real.chmod(0o640)
    (tmp_path / "link.log").symlink_to(real)
    async with log(
        tmp_path,
        include_file_path=True,
        include_file_name_resolved=True,
        include_file_path_resolved=True,
        include_file_owner_name=True,
        include_file_permissions=True,
        include_file_owner_group_name=True,
        attributes={"a": "b"},
        resource={"service.name": "s"},
    ) as t:
        assert await t.poll() == ["x"]
        got = attributes(t.records()[0])
        assert got.pop("log.file.owner.group.name")
        assert got == {
            "a": "b",
            "log.file.name": "link.log",
            "log.file.path": f"{tmp_path}/link.log",
            "log.file.name_resolved": "real.txt",
            "log.file.path_resolved": os.path.realpath(real),
            "log.file.permissions": "640",
            "log.file.owner.name": pwd.getpwuid(os.getuid()).pw_name,
        }


async def test_header_lines_describe_all_entries(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    header = {
        "pattern": "^#",
        "metadata_operators": [{"type": "regex_parser", "regex": "(?P<key>version|host)=(?P<value>.*)$", "on_error": "send_quiet"}],
    }
    path.write_text("# host=h\n#\n")
    async with log(tmp_path, header=header) as t:
        assert await t.poll() == []
        append(path, "# version=2\none\n# two\n")
        assert await t.poll() == ["one", "# two"]
        assert attributes(t.records()[0]) == {"log.file.name": "a.log", "key": "version", "value": "2"}


async def test_ordering_criteria(tmp_path: Path) -> None:
    for name in ("a.1.log", "a.2.log", "a.10.log", "b.3.log", "b.x.log", "c.log"):
        (tmp_path / name).write_text(name + "\n")
    ordering = {
        "regex": r"(?P<app>[a-z])\.(?P<n>\w+)\.log$",
        "top_n": 1,
        "group_by": r"/(\w)\.\w+\.log$",
        "sort_by": [{"regex_key": "n", "sort_type": "numeric", "ascending": False}],
    }
    async with log(tmp_path, ordering_criteria=ordering) as t:
        assert sorted(await t.poll()) == ["a.10.log", "b.3.log"]
    del ordering["group_by"]
    async with log(tmp_path, ordering_criteria={**ordering, "top_n": 2}) as t:
        assert await t.poll() == ["a.10.log", "b.3.log"]


async def test_ordering_by_time(tmp_path: Path) -> None:
    for i, name in enumerate(("2024010300.log", "2024010100.log", "2024010200.log", "nonsense.log")):
        (tmp_path / name).write_text(name + "\n")
        os.utime(tmp_path / name, (1000 + i, 1000 + i))
    by_name = {
        "regex": r"(?P<t>\w+)\.log$",
        "sort_by": [
            {"regex_key": "t", "sort_type": "timestamp", "layout": "%Y%m%d%H", "location": "Europe/Berlin", "ascending": True}
        ],
    }
    async with log(tmp_path, ordering_criteria={**by_name, "top_n": 0}) as t:
        assert await t.poll() == ["2024010100.log", "2024010200.log", "2024010300.log"]
    async with log(tmp_path, ordering_criteria={"top_n": 2, "sort_by": [{"sort_type": "mtime"}]}) as t:
        assert await t.poll() == ["nonsense.log", "2024010200.log"]


async def test_exclude_and_exclude_older_than(tmp_path: Path) -> None:
    for name in ("a.log", "b.log", "c.log"):
        (tmp_path / name).write_text(name + "\n")
    os.utime(tmp_path / "c.log", (1000, 1000))
    async with log(tmp_path, exclude=[f"{tmp_path}/b*"], exclude_older_than="1h") as t:
        assert await t.poll() == ["a.log"]
        append(tmp_path / "c.log", "young again\n")
        assert await t.poll() == ["c.log", "young again"]


async def test_delete_after_read_deletes_what_was_delivered(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\nlast without newline")
    async with log(tmp_path, delete_after_read=True) as t:
        assert await t.poll() == ["one", "last without newline"]
        await t.poll()
        assert not path.exists()
        path.write_text("again\n")
        assert await t.poll() == ["again"]


async def test_a_file_somebody_locks_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("x\n")
    async with log(tmp_path, acquire_fs_lock=True) as t:
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            assert await t.poll() == []
        assert await t.poll() == ["x"]


async def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(gzip.compress(b"one\ntwo"))
    async with log(tmp_path, compression="auto") as t:
        assert await t.poll() == ["one", "two"]
        append(path, gzip.compress(b"three\n" * 100000))  # a member that was added
        assert await t.poll() == ["three"] * 100000


async def test_damaged_gzip_is_counted_and_other_files_go_on(tmp_path: Path) -> None:
    good = gzip.compress(b"".join(b"%d\n" % i for i in range(50000)))
    (tmp_path / "bad.log").write_bytes(good[:1000] + b"\xff" * 50 + good[1050:])
    (tmp_path / "good.log").write_text("fine\n")
    async with log(tmp_path, compression="auto") as t:
        got = await t.poll()
        assert got[-1] == "fine" or "fine" in got
        assert unreadable(t, "damaged gzip") == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
async def test_an_unreadable_file_is_counted_once_and_read_once_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("x\n")
    path.chmod(0)
    async with log(tmp_path) as t:
        assert await t.poll() == []
        assert await t.poll() == []
        assert unreadable(t) == 1
        path.chmod(0o600)
        assert await t.poll() == ["x"]


async def test_a_file_that_cannot_be_opened_is_counted_once_and_keeps_nobody_from_being_read(tmp_path: Path) -> None:
    loop = tmp_path / "a.log"
    loop.symlink_to(loop)
    (tmp_path / "b.log").write_text("x\n")
    async with log(tmp_path) as t:
        assert await t.poll() == ["x"]
        assert await t.poll() == []
        assert unreadable(t) == 1
        loop.unlink()
        loop.write_text("y\n")
        assert await t.poll() == ["y"]


async def test_a_directory_that_cannot_be_listed_is_the_receivers_status(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    async with Tailing({"include": [f"{tmp_path}/loop/*.log"]}) as t:
        await t.poll()
        assert "cannot list" in (t.host.statuses["receivers/filelog"] or "")
        (tmp_path / "loop").unlink()
        (tmp_path / "loop").mkdir()
        await t.poll()
        assert t.host.statuses["receivers/filelog"] is None


async def test_fifos_and_directories_are_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.log")
    (tmp_path / "d.log").mkdir()
    async with log(tmp_path) as t:
        assert await t.poll() == await t.poll() == []
        assert unreadable(t, "not a regular file") == 1  # directories are no files at all


async def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i:02}.log" for i in range(20)]
    for path in paths:
        path.write_text(f"first {path.name}\n")
    async with log(tmp_path, max_concurrent_files=4) as t:
        got = []
        for _ in range(8):
            got += await t.poll()
            assert t.host.ledger.total("otelcol_fileconsumer_open_files_ratio", receiver="filelog") <= 4
        assert sorted(got) == sorted(f"first {p.name}" for p in paths)
        for path in paths:
            append(path, f"second {path.name}\n")
        got = []
        for _ in range(8):
            got += await t.poll()
        assert sorted(got) == sorted(f"second {p.name}" for p in paths)


async def test_a_chatty_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("chatter " * 20 + "\n")
    (tmp_path / "a.log").write_text(("chatter " * 20 + "\n") * 40000)
    (tmp_path / "b.log").write_text("quiet\n")
    async with log(tmp_path) as t:
        got = await t.poll()
        assert len(got) == 40001
        assert got.index("quiet") < 2000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "include"),
        ({"include": []}, "include"),
        ({"include": ["/a/{b"]}, "not closed"),
        ({"include": ["/a"], "encoding": "klingon"}, "unsupported encoding 'klingon'"),
        ({"include": ["/a"], "multiline": {"line_start_pattern": "a", "line_end_pattern": "b"}}, "only one of"),
        ({"include": ["/a"], "multiline": {"line_start_pattern": "("}}, "'(' is not a regular expression"),
        ({"include": ["/a"], "encoding": "nop", "multiline": {"line_end_pattern": "b"}}, "multiline cannot be used"),
        ({"include": ["/a"], "start_at": "end", "delete_after_read": True}, "delete_after_read cannot be used with start_at: end"),
        ({"include": ["/a"], "fingerprint_size": 15}, "fingerprint_size"),
        ({"include": ["/a"], "max_log_size": 0}, "max_log_size"),
        ({"include": ["/a"], "ordering_criteria": {"sort_by": [{"sort_type": "numeric", "regex_key": "x"}]}}, "regex must be set"),
        (
            {
                "include": ["/a"],
                "ordering_criteria": {"regex": "(?P<y>a)", "sort_by": [{"sort_type": "numeric", "regex_key": "x"}]},
            },
            "not a named group",
        ),
        ({"include": ["/a"], "operators": [{"type": "no_such"}]}, "no_such"),
        ({"include": ["/a"], "poll_intervall": "1s"}, "poll_intervall"),
    ],
)
def test_wrong_options_say_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Config.model_validate(options)


class _Defect(Transformer[TransformerConfig]):
    def transform(self, entry: Entry) -> None:
        if entry.body == "bad":
            raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")


class _DefectOutside(_Defect):
    def process(self, entry: Entry, run: Run) -> None:
        self.transform(entry)
        self.write(entry, run)


@pytest.mark.parametrize(("operator", "reason"), [(_Defect, "operator/it"), (_DefectOutside, "internal error")])
async def test_a_defect_of_an_operator_neither_stops_a_file_nor_repeats_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operator: type[Transformer[Any]], reason: str
) -> None:
    monkeypatch.setattr(build_module, "OPERATORS", {**OPERATORS, "stranger": operator})
    path = tmp_path / "a.log"
    path.write_text("one\nbad\ntwo\n")
    async with log(tmp_path, operators=[{"type": "stranger", "id": "it", "on_error": "drop"}]) as t:
        assert await t.poll() == ["one", "two"]
        append(path, "three\n")
        assert await t.poll() == ["three"]
        dropped = t.host.ledger.total("kofagent_dropped_items_total", component="filelog", signal="logs", reason=reason)
        assert dropped == 1
