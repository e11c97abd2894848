"""What the verdicts of the suite are made of: arrivals, the books, the road."""

from __future__ import annotations

import asyncio
import base64
import socket
from pathlib import Path

import pytest

from tests.faults import books
from tests.faults.canaries import Canaries
from tests.faults.owed import Owed, left
from tests.faults.road import Road
from tests.faults.sink import Arrivals, Sink
from tests.faults.sources import Numbered, Pages, Spans

PAGE = """otelcol_receiver_accepted_spans_total{receiver="otlp",transport="http"} 10
kofagent_exporter_inherited_items_total{exporter="otlphttp",signal="traces"} 5
otelcol_exporter_sent_spans_total{exporter="otlphttp"} 7
kofagent_dropped_items_total{component="otlphttp",signal="traces",reason="http 400"} 2
kofagent_dropped_items_total{component="otlp",signal="traces",reason="malformed"} 4
kofagent_filtered_items_total{component="filter",signal="traces",rule="0"} 1
kofagent_exporter_queue_items{exporter="otlphttp",signal="traces",queue="disk"} 5
kofagent_exporter_queue_items{exporter="otlphttp",signal="traces",queue="memory"} 50
"""


def test_the_books_balance_without_what_was_never_accepted() -> None:
    book = books.read(PAGE)["traces"]
    assert book.missing == 0
    assert book.lost == 6
    assert books.read(PAGE.replace("} 7", "} 6"))["traces"].missing == 1
    assert books.read(PAGE.replace("} 7", "} 8"))["traces"].missing == -1


def test_arrivals_know_what_came_again_and_what_came_late() -> None:
    arrivals = Arrivals()
    for number in (1, 2, 5, 5, 3, 3):
        arrivals.add("a", number)
    arrivals.add("b", 1)
    assert (arrivals.twice, arrivals.behind, len(arrivals.count)) == (2, 1, 5)


async def test_a_road_is_closed_resets_and_is_good_again() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"hello")
            return await reader.readexactly(5)
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Road(server.sockets[0].getsockname()[1]) as road:
        assert await ask(road.port) == b"hello"
        road.reset_after = 3
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask(road.port)
        await road.close()
        with pytest.raises(ConnectionError):
            await ask(road.port)
        with pytest.raises(OSError, match="in use"), socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", road.port))
        road.good()
        await road.open()
        assert await ask(road.port) == b"hello"


def test_canaries_are_found_in_texts_and_files_plain_and_as_passwords(tmp_path: Path) -> None:
    canaries = Canaries()
    (tmp_path / "queue").write_bytes(b"\0" + canaries.of["exporter-token"].encode() + b"\0")
    password = base64.b64encode(f"me:{canaries.of['scrape-password']}".encode())
    found = canaries.found({"/metrics": b"Basic " + password, "/debug": b"nothing"}, tmp_path.rglob("*"))
    assert found == [f"exporter-token in {tmp_path / 'queue'}", "scrape-password in /metrics"]


async def test_a_frozen_road_is_good_for_new_connections_only() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            writer.write(b"x")
        writer.close()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"?")
        return await reader.readexactly(1)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Road(server.sockets[0].getsockname()[1]) as road:
        old = await asyncio.open_connection("127.0.0.1", road.port)
        assert await ask(*old) == b"x"
        road.freeze()
        waiting = asyncio.create_task(ask(*old))
        new = await asyncio.open_connection("127.0.0.1", road.port)
        assert [await ask(*new) for _ in range(3)] == [b"x"] * 3
        assert not waiting.done()
        waiting.cancel()
        for _, writer in (old, new):
            writer.close()


def test_what_is_owed_is_what_was_written_and_acknowledged_and_scraped_in_peace_and_did_not_arrive() -> None:
    sink, spans, pages, lines = Sink(), Spans(str, 1), Pages(1, 2), Numbered("pod", 1)
    owed = Owed(sink, spans, pages)
    lines.number = 3
    spans.in_order += [("client", 0), ("client", 1)]
    pages.in_order += [("0", 1), ("0", 2)]
    pages.served.update({("0", 1): 10.0, ("0", 2): 20.0})
    sink.lines.add("pod", 1)
    sink.spans.add("client", 0)
    sink.samples.add("0/1", 1)
    assert owed.missing([lines], []) == {
        "lines": {("pod", 0), ("pod", 2)},
        "spans": {("client", 1)},
        "samples": {("0/0", 1), ("0/0", 2), ("0/1", 2)},
    }
    sink.lines.add("pod", 0)
    sink.samples.add("0/1", 2)
    lines.number = 4
    lines.in_doubt.add(("pod", 2))
    assert owed.missing([lines], [(19.0, 21.0)]) == {"lines": {("pod", 3)}, "spans": {("client", 1)}, "samples": {("0/0", 1)}}
    assert owed.missing([lines], [])["samples"] == {
        ("0/0", 1),
        ("0/0", 2),
    }  # a kill that is known later takes nothing away for good
    sink.forget()
    assert len(owed.missing([lines], [])["samples"]) == 4
    mark = {"lines": {("pod", 0)}, "spans": {("client", 5)}}
    sink.lines.add("pod", 0)
    assert left(mark, sink)
    assert mark == {"lines": set(), "spans": {("client", 5)}}
