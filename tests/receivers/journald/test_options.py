"""What options mean that are not filters (those are held against journalctl), and what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData
from pydantic import ValidationError

from kofagent.cli.validate import validate_text
from kofagent.component import registry
from kofagent.operators.encode import log_record
from kofagent.operators.entry import Entry as LogEntry
from kofagent.receivers.journald import COMPONENT, convert, names, receiver
from kofagent.receivers.journald.cursor import Cursor
from kofagent.receivers.journald.fields import Style, field
from kofagent.receivers.journald.file import Entry
from kofagent.receivers.journald.matches import compile_matches, priorities
from kofagent.receivers.journald.units import pattern, unit_name
from kofagent.telemetry.signal import Signal
from tests.receivers.journald.support import Following, attributes, plain
from tests.support.drivers import Store
from tests.support.journal_files import MACHINE, JournalWriter, write

OLD_BOOT = bytes.fromhex("55" * 16)


def put(root: Path, path: str, message: str, **options: Any) -> JournalWriter:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    return write(file, [message], **options)


def machine(root: Path, id: str) -> None:
    (root / "etc").mkdir()
    (root / "etc/machine-id").write_text(f"{id}\n")


async def messages(root: Path, **options: Any) -> list[Any]:
    async with Following({"root_path": str(root), **options}) as f:
        return sorted(await f.poll() + await f.poll())


MINE, OTHER = "aa" * 16, "bb" * 16


@pytest.fixture
def host(tmp_path: Path) -> Path:
    machine(tmp_path, MINE)
    put(tmp_path, f"/var/log/journal/{MINE}/system.journal", "persistent")
    put(tmp_path, f"/var/log/journal/{MINE}/system@0.journal~", "damaged by a crash")
    put(tmp_path, f"/var/log/journal/{MINE}.audit/system.journal", "namespace")
    put(tmp_path, f"/var/log/journal/{OTHER}/system.journal", "other machine")
    put(tmp_path, f"/var/log/journal/{MINE}/notes.txt", "no journal")
    put(tmp_path, "/var/log/journal/remote/remote-a.journal", "remote")
    put(tmp_path, f"/run/log/journal/{OTHER}/system.journal", "volatile")
    return tmp_path


async def test_the_journal_of_this_machine_is_read(host: Path) -> None:
    assert await messages(host) == ["damaged by a crash", "persistent", "volatile"]


async def test_in_a_container_that_has_another_id_all_are_this_machine(host: Path) -> None:
    (host / "etc/machine-id").write_text("cc" * 16)
    assert await messages(host) == ["damaged by a crash", "other machine", "persistent", "volatile"]


async def test_merge_reads_those_of_all_machines(host: Path) -> None:
    assert await messages(host, merge=True) == ["damaged by a crash", "other machine", "persistent", "volatile"]


@pytest.mark.parametrize(
    "namespace, expected",
    [
        ("audit", ["namespace"]),
        ("+audit", ["damaged by a crash", "namespace", "persistent", "volatile"]),
        ("*", ["damaged by a crash", "namespace", "persistent", "volatile"]),
        ("none", []),
    ],
)
async def test_namespaces(host: Path, namespace: str, expected: list[str]) -> None:
    assert await messages(host, namespace=namespace) == expected


async def test_a_directory_and_files_are_below_the_root_path(host: Path) -> None:
    assert await messages(host, directory="/var/log/journal/remote") == ["remote"]
    assert await messages(host, files=[f"/var/log/journal/{MINE}/system.journal"]) == ["persistent"]
    assert await messages(host, files=[f"/var/log/journal/{MINE}/*.journal*"]) == ["damaged by a crash", "persistent"]


async def test_a_journal_that_is_not_there_is_said_until_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Following({"directory": str(tmp_path / "journal")}) as f:
        assert "does not exist" in (f.host.statuses["receivers/journald"] or "")
        await f.poll()
        put(tmp_path, "journal/system.journal", "there")
        assert await f.poll() + await f.poll() == ["there"]
        assert f.host.statuses["receivers/journald"] is None
    assert caplog.text.count("does not exist") == 1


async def test_of_the_kernel_only_what_this_boot_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    path = tmp_path / "boot_id"
    path.write_text("66" * 16)
    monkeypatch.setattr(receiver, "BOOT_ID", str(path))
    writer = put(tmp_path, f"/var/log/journal/{MINE}/system.journal", "not of the kernel", boot=OLD_BOOT)
    writer.append("MESSAGE=old", "PRIORITY=6", "_TRANSPORT=kernel")
    writer.append("MESSAGE=new", "PRIORITY=6", "_TRANSPORT=kernel", boot=bytes.fromhex("66" * 16))
    options = {"root_path": str(tmp_path), "dmesg": True}
    async with Following(options, store=store) as f:
        assert await f.poll() == ["new"]
    # what the last boot said at its end, and nobody read then
    writer.append("MESSAGE=panic", "PRIORITY=0", "_TRANSPORT=kernel")
    path.write_text("77" * 16)
    writer.append("MESSAGE=next", "PRIORITY=6", "_TRANSPORT=kernel", boot=bytes.fromhex("77" * 16))
    async with Following(options, store=store) as f:
        assert await f.poll() == ["panic", "next"]


async def test_conventions(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "a.journal")
    writer.append(
        "MESSAGE=hello",
        "PRIORITY=2",
        "CODE_LINE=7",
        "CODE_FUNC=main",
        "SYSLOG_IDENTIFIER=app",
        "SYSLOG_PID=x",
        "_HOSTNAME=box",
        "_PID=12",
        "_TRANSPORT=journal",
    )
    options = {
        "files": [str(writer.path)],
        "convert_to_semantic_conventions": True,
        "attributes": {"a": "b"},
        "resource": {"r": "s"},
    }
    async with Following(options) as f:
        await f.poll()
        (logs,) = LogsData.FromString(f.sink.payload(Signal.LOGS)).resource_logs
        (record,) = logs.scope_logs[0].log_records
        assert plain(record.body) == "hello"
        assert (record.severity_number, record.severity_text) == (18, "crit")
        assert attributes(logs.resource.attributes) == {"r": "s", "host.name": "box", "process.pid": 12}
        got = attributes(record.attributes)
        assert got.pop("journald.__CURSOR").startswith("s=")
        assert got == {
            "a": "b",
            "code.line.number": 7,
            "code.function.name": "main",
            "syslog.msg.id": "app",
            "syslog.pid": "x",
            "journald._TRANSPORT": "journal",
            "journald._BOOT_ID": "11" * 16,
            "journald.__MONOTONIC_TIMESTAMP": "1000000",
        }


async def test_operators_attributes_and_resource(tmp_path: Path) -> None:
    write(tmp_path / "a.journal", ["one", "two"])
    severity = {"type": "severity_parser", "parse_from": "body.PRIORITY", "mapping": {"info": "6"}}
    drop = {"type": "filter", "expr": 'body.MESSAGE == "one"'}
    options = {
        "files": [str(tmp_path / "a.journal")],
        "operators": [severity, drop],
        "attributes": {"host": "EXPR(body._HOSTNAME)"},
        "resource": {"r": "s"},
    }
    async with Following(options) as f:
        assert await f.poll() == ["two"]
        (logs,) = LogsData.FromString(f.sink.payload(Signal.LOGS)).resource_logs
        (record,) = logs.scope_logs[0].log_records
        assert record.severity_number == 9 and record.time_unix_nano == 1_700_000_002_000_000_000
        assert attributes(record.attributes) == {"host": "node-1"}
        assert attributes(logs.resource.attributes) == {"r": "s"}
        assert "severity_parser" in f.receiver.explain()


_data = st.one_of(
    st.tuples(
        st.sampled_from(["MESSAGE", "A", "B", "_C1"]),
        st.one_of(st.text(max_size=9).map(str.encode), st.binary(max_size=9), st.integers(100, 200).map(lambda n: b"x" * n)),
    ).map(lambda pair: pair[0].encode() + b"=" + pair[1]),
    st.sampled_from([b"_BOOT_ID=1", b"lower=1", b"nothing", b"LONG=" + b"x" * 5000]),
)


@given(st.lists(_data, max_size=6), st.booleans(), st.booleans(), st.integers(1, 1 << 53))
@settings(deadline=None)
def test_a_record_is_put_together_as_operators_would_have_it(data: list[bytes], everything: bool, text: bool, time: int) -> None:
    entry = Entry(time, time, time, OLD_BOOT, time, ())
    place = Cursor(MACHINE, time, OLD_BOOT, time, time, time)
    fields = [field(one, True, Style(everything, text), 0) for one in data]
    content = convert.body(entry, place, fields)
    slow = LogEntry(content, {"a": "b"}, {}, 5)
    slow.timestamp = time * 1000
    fast = convert.Assembler(b"\x32\x08\x0a\x01a\x12\x03\x0a\x01b").record(place, fields, 5)
    names = [one.name for one in fields]
    assert (fast is None) == (len(set(names)) < len(names))
    if fast is not None:
        assert _parsed(fast) == _parsed(log_record(slow))


def _parsed(data: bytes) -> LogRecord:
    from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

    (record,) = ScopeLogs.FromString(data).log_records
    return record


@pytest.mark.parametrize(
    "options, words",
    [
        ({"priority": "loud"}, "is not a priority"),
        ({"priority": "8"}, "is not a priority"),
        ({"priority": "err..loud"}, "is not a priority"),
        ({"start_at": "middle"}, "start_at"),
        ({"grep": "("}, "regular expression"),
        ({"grep": "(?=a)"}, "regular expression"),
        ({"matches": [{"_UID": "0"}, {"-UNIT": "a"}]}, "cannot be a field"),
        ({"units": [""]}, "cannot be the name of a unit"),
        ({"units": ["[z-a]*"]}, "regular expression"),
        ({"namespace": "a/b"}, "cannot be a namespace"),
        ({"root_path": "host"}, "absolute"),
        ({"root_path": "/host", "journalctl_path": "journalctl"}, "absolute"),
        ({"journalctl_path": " "}, "blank"),
        ({"operators": [{"type": "nothing"}]}, "unknown operator"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        COMPONENT.Config.model_validate(options)


def test_what_does_nothing_is_said() -> None:
    def said(**options: Any) -> list[str]:
        return [str(p.path[0]) for p in COMPONENT.Config.model_validate(options).notices()]

    assert said() == []
    assert said(directory="/a", files=["/b"]) == ["files"]
    assert said(files=["/b"], namespace="c") == ["namespace"]


def test_names_of_units() -> None:
    """As `systemd-escape --mangle` completes them, but for globs."""
    names = {
        "ssh": "ssh.service",
        "ssh.service": "ssh.service",
        "user@1000": "user@1000.service",
        "/dev/sda": "dev-sda.device",
        "/var/log": "var-log.mount",
        "/": "-.mount",
        "a b": "a\\x20b.service",
        "foo.bar": "foo.bar.service",
        "ss*": "ss*",
    }
    assert {name: unit_name(name) for name in names} == names
    assert pattern("ss[hk]*.service")("ssh.service") and not pattern("ss[!h]*")("ssh.service")
    assert pattern("a.b")("a.b") and not pattern("a.b")("axb") and pattern("[")("[")


def test_priorities() -> None:
    assert list(priorities("err")) == [0, 1, 2, 3] == list(priorities("3"))
    assert list(priorities("info..err")) == [3, 4, 5, 6] == list(priorities("err..info"))


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_masks_say_what_the_conditions_say(seed: int) -> None:
    rng = random.Random(seed)
    values = ["a", "b", "c"]
    matches = [{rng.choice("XYZ"): rng.choice(values) for _ in range(rng.randrange(1, 3))} for _ in range(rng.randrange(3))]
    identifiers = rng.sample(values, rng.randrange(3))
    compiled = compile_matches([], identifiers, "debug", False, matches)
    have = {(rng.choice([*"XYZ", "SYSLOG_IDENTIFIER"]), rng.choice(values)) for _ in range(rng.randrange(6))}
    mask = 0
    for name, value in have:
        mask |= compiled.mask(f"{name}={value}".encode())
    expected = (not identifiers or any(("SYSLOG_IDENTIFIER", one) in have for one in identifiers)) and (
        not matches or any(have.issuperset(match.items()) for match in matches)
    )
    assert compiled.accepts(mask) == expected


async def test_explain_says_which_entries_are_wanted(tmp_path: Path) -> None:
    async with Following({"directory": str(tmp_path), "units": ["ssh"], "grep": "a", "dmesg": True}) as f:
        text = f.receiver.explain()
    assert "dmesg: _TRANSPORT=kernel" in text and "_SYSTEMD_UNIT=ssh.service or " in text and "matches 'a'" in text
    assert "priority: PRIORITY is one of 0, 1, 2, 3, 4, 5, 6" in text


async def test_more_files_than_there_should_be_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MOST_FILES", 3)
    for i in range(5):
        write(tmp_path / f"{i}.journal", [str(i)])
    async with Following({"directory": str(tmp_path)}) as f:
        assert len(await f.poll()) == 3
        assert "more than 3 files" in (f.host.statuses["receivers/journald"] or "")


async def test_many_files_are_read_with_what_is_kept_of_few(tmp_path: Path) -> None:
    writers = [JournalWriter(tmp_path / f"{i:02d}.journal") for i in range(20)]
    for second in range(60):
        writers[second * 7 % 20].append(f"MESSAGE={second}", "PRIORITY=6", realtime=10**15 + second, monotonic=second)
    async with Following({"directory": str(tmp_path)}) as f:
        assert await f.poll() == [str(i) for i in range(60)]
        kept = [tail.file._blocks.size for tail in f.receiver._journal.tails.values()]
        assert len(kept) == 20 and sum(size > 0 for size in kept) <= 2


def test_the_example_is_valid() -> None:
    path = Path(__file__).parents[3] / "configs" / "journal.yaml"
    good, text = validate_text(registry, config=[str(path)])
    assert good and "warning" not in text, text
