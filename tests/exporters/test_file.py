"""file: what lands in the file is what went in; rotation, groups, compression, a full disk."""

from __future__ import annotations

import json
import resource
import signal as signals
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.exporters.file import COMPONENT
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp_json
from tests.support.components import make, validated


def batch(*bodies: str, group: str | None = None) -> Batch:
    request = ExportLogsServiceRequest()
    entry = request.resource_logs.add()
    if group is not None:
        entry.resource.attributes.add(key="fileexporter.path_segment").value.string_value = group
    scope = entry.scope_logs.add()
    for body in bodies:
        record = scope.log_records.add(trace_id=bytes(range(16)), time_unix_nano=1)
        record.body.string_value = body
    return Batch(Signal.LOGS, request.SerializeToString(), len(bodies))


async def exporter(path: Path, **options: Any) -> Any:
    made = make(COMPONENT, {"path": str(path), **options}, kind="exporters", id="file")
    await made.start()
    return made


def bodies(data: bytes) -> list[str]:
    out = []
    for line in data.splitlines():
        request = ExportLogsServiceRequest.FromString(otlp_json.to_protobuf("logs", line))
        out += [r.body.string_value for e in request.resource_logs for s in e.scope_logs for r in s.log_records]
    return out


def sent(made: Any) -> float:
    return made.context.ledger.total("otelcol_exporter_sent_log_records_total", exporter="file")


async def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    made = await exporter(file)
    await made.consume(batch("a", "b"))
    await made.consume(batch("c"))
    await made.stop()
    assert bodies(file.read_bytes()) == ["a", "b", "c"]
    document = json.loads(file.read_bytes().splitlines()[0])
    record = document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record == {"timeUnixNano": "1", "traceId": "000102030405060708090a0b0c0d0e0f", "body": {"stringValue": "a"}}
    assert sent(made) == 3


@pytest.mark.parametrize(("append", "kept"), [(False, ["b"]), (True, ["a", "b"])])
async def test_append(tmp_path: Path, append: bool, kept: list[str]) -> None:
    for body in "ab":
        made = await exporter(tmp_path / "out", append=append)
        await made.consume(batch(body))
        await made.stop()
        await made.stop()
    assert bodies((tmp_path / "out").read_bytes()) == kept


def unframed(data: bytes) -> list[bytes]:
    out, at = [], 0
    while at < len(data):
        [size] = struct.unpack_from(">I", data, at)
        out.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return out


def unpacked(path: Path) -> bytes:
    """What `zstd -dc` prints."""
    with path.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()


@pytest.mark.parametrize("compression", ["none", "zstd"])
async def test_what_is_compressed_is_a_file_of_that_format(tmp_path: Path, compression: str) -> None:
    """contrib#44077: between the frames is nothing; unpacked it is what would be there without compression."""
    options = {"compression": compression, "compression_params": {"level": 1}, "append": True}
    for body in ("a", "b" * 1000):  # also when another run appends to it
        lines = await exporter(tmp_path / "lines", **options)
        framed = await exporter(tmp_path / "framed", format="proto", **options)
        for made in (lines, framed):
            await made.consume(batch(body))
            await made.stop()
    read = unpacked if compression == "zstd" else Path.read_bytes
    assert bodies(read(tmp_path / "lines")) == ["a", "b" * 1000] and read(tmp_path / "lines").endswith(b"\n")
    assert unframed(read(tmp_path / "framed")) == [batch("a").payload, batch("b" * 1000).payload]


async def test_rotation_keeps_everything_and_then_a_number_of_backups(tmp_path: Path) -> None:
    made = await exporter(tmp_path / "out.json", rotation={"max_megabytes": 1, "max_backups": 2})
    for i in range(12):
        await made.consume(batch(f"{i}:" + "x" * 400_000))
    await made.stop()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3 and (tmp_path / "out.json") in files
    assert all(f.stat().st_size <= 1 << 20 for f in files)
    assert all(f.name.startswith("out-20") and f.suffix == ".json" for f in files if f.name != "out.json")
    seen = [b.split(":")[0] for f in files for b in bodies(f.read_bytes())]
    assert sorted(map(int, seen)) == list(range(6, 12))


async def test_rotated_files_that_are_too_old_go(tmp_path: Path) -> None:
    old, other = tmp_path / "out-2020-01-01T00-00-00.000.json", tmp_path / "out-notes.json"
    old.write_text("")
    other.write_text("")
    made = await exporter(tmp_path / "out.json", rotation={"max_megabytes": 1, "max_days": 3})
    for _ in range(2):
        await made.consume(batch("x" * 700_000))
    await made.stop()
    assert not old.exists() and other.exists() and len(list(tmp_path.iterdir())) == 3


async def test_groups(tmp_path: Path) -> None:
    made = await exporter(tmp_path / "logs-*.json", group_by={"enabled": True, "max_open_files": 2})
    for name in ("a", "b", "c", "a", "deep/er", "../../evil", "/abs"):
        await made.consume(batch(name, group=name))
    await made.consume(batch("nowhere"))
    await made.stop()
    found = {str(f.relative_to(tmp_path)): bodies(f.read_bytes()) for f in tmp_path.rglob("*") if f.is_file()}
    assert found == {
        "logs-a.json": ["a", "a"],
        "logs-b.json": ["b"],
        "logs-c.json": ["c"],
        "logs-deep/er.json": ["deep/er"],
        "logs-evil.json": ["../../evil"],
        "logs-abs.json": ["/abs"],
    }
    ledger = made.context.ledger
    assert ledger.total("kofagent_dropped_items_total", component="file", signal="logs", reason="no path attribute") == 1
    assert sent(made) == 7


async def test_directory(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="create_directory"):
        await exporter(tmp_path / "new" / "out")
    with pytest.raises(StartError, match=r"Is a directory; name a writable file$"):
        await exporter(tmp_path)
    made = await exporter(tmp_path / "new" / "out", create_directory=True, directory_permissions="0700")
    await made.stop()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


async def test_a_full_disk_is_refused_and_recovered_from() -> None:
    made = await exporter(Path("/dev/full"))
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await made.consume(batch("a"))
        assert refused.value.reason == "disk full" and not refused.value.permanent
    assert "No space left" in made.context.host.statuses["exporters/file"]
    assert made.context.ledger.total("otelcol_exporter_send_failed_log_records_total", exporter="file") == 2
    await made.stop()


@pytest.fixture
def file_limit() -> Iterator[Any]:
    """Limits the size of every file this process writes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signals.signal(signals.SIGXFSZ, signals.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size if size else old[0], old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signals.signal(signals.SIGXFSZ, handler)


async def test_no_torn_message_when_space_runs_out(tmp_path: Path, file_limit: Any) -> None:
    made = await exporter(tmp_path / "out")
    await made.consume(batch("a"))
    size = (tmp_path / "out").stat().st_size
    file_limit(size + 100)
    try:
        with pytest.raises(Refused, match="disk full"):
            await made.consume(batch("b" * 1000))
    finally:
        file_limit(0)
    assert (tmp_path / "out").stat().st_size == size
    await made.consume(batch("c"))
    assert made.context.host.statuses["exporters/file"] is None
    await made.stop()
    assert bodies((tmp_path / "out").read_bytes()) == ["a", "c"]
    assert sent(made) == 2


async def test_a_grouped_batch_is_written_whole_or_not_at_all(tmp_path: Path, file_limit: Any) -> None:
    made = await exporter(tmp_path / "logs-*.json", group_by={"enabled": True, "max_open_files": 1})
    await made.consume(batch("a0", group="a"))
    await made.consume(batch("b" * 3000, group="b"))
    file_limit((tmp_path / "logs-b.json").stat().st_size + 50)
    both = Batch(Signal.LOGS, batch("a1", group="a").payload + batch("b1" * 500, group="b").payload, 2)
    try:
        with pytest.raises(Refused, match="disk full"):
            await made.consume(both)
        assert bodies((tmp_path / "logs-a.json").read_bytes()) == ["a0"]
    finally:
        file_limit(0)
    await made.consume(both)
    await made.stop()
    assert bodies((tmp_path / "logs-a.json").read_bytes()) == ["a0", "a1"]
    assert len(bodies((tmp_path / "logs-b.json").read_bytes())) == 2
    assert sent(made) == 4


async def test_a_malformed_batch_is_dropped_and_the_next_one_works(tmp_path: Path) -> None:
    made = await exporter(tmp_path / "out")
    with pytest.raises(Refused) as refused:
        await made.consume(Batch(Signal.LOGS, b"\x0a\x05x", 1))
    assert refused.value.permanent
    assert made.context.ledger.total("kofagent_dropped_items_total", component="file", signal="logs", reason="malformed") == 1
    await made.consume(batch("a"))
    await made.stop()
    assert bodies((tmp_path / "out").read_bytes()) == ["a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Field required"),
        ({"path": ""}, "at least 1"),
        ({"path": "a\0b"}, "NUL"),
        ({"path": "x", "format": "xml"}, "json"),
        ({"path": "x", "encoding": "otlp"}, "not supported"),
        ({"path": "x", "group_by": {"enabled": True}}, "exactly one"),
        ({"path": "x", "directory_permissions": "rwx"}, "octal"),
        ({"path": "x", "compression": "gzip"}, "zstd"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make(COMPONENT, options, kind="exporters")


def test_rotation_without_options_means_the_defaults() -> None:
    assert validated(COMPONENT, {"path": "x", "rotation": None}).rotation.max_megabytes == 100
    assert validated(COMPONENT, {"path": "x"}).rotation is None
