"""Calls with zstd and snappy against our own server, and against one that speaks just enough HTTP/2 to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import snappy
import zstandard

from kofagent.config.blocks import GrpcClientBlock
from kofagent.net.grpc_packed import PackedChannel
from kofagent.net.http2 import frames
from kofagent.receivers.otlp import COMPONENT as OtlpReceiver
from kofagent.telemetry.signal import Signal
from tests.support.components import Sink, make
from tests.support.otlp import log_request

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
Answering = Callable[[asyncio.StreamWriter, int, bytes], Awaitable[None]]


def channel(port: int, compression: str = "zstd") -> PackedChannel:
    where = f"127.0.0.1:{port}"
    return PackedChannel(GrpcClientBlock.model_validate({"endpoint": where, "compression": compression}), where, True)


@contextlib.asynccontextmanager
async def receiver(sink: Sink) -> AsyncIterator[Any]:
    made = make(OtlpReceiver, {"protocols": {"grpc": {"endpoint": "127.0.0.1:0", "max_recv_msg_size_mib": 1}}}, id="otlp")
    made.outputs = {Signal.LOGS: sink}
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def scripted(answering: Answering) -> AsyncIterator[int]:
    """A server that gives whole requests (stream, body) to `answering`, and room for more."""

    serving: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        bodies: dict[int, bytes] = {}
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(len(frames.PREFACE))
            writer.write(frames.settings({}))
            while True:
                word, flags, stream = struct.unpack(">IBI", await reader.readexactly(frames.HEAD))
                payload = await reader.readexactly(word >> 8)
                if word & 0xFF == frames.DATA:
                    bodies[stream] = bodies.get(stream, b"") + payload
                    writer.write(frames.window_update(0, len(payload) or 1) + frames.window_update(stream, len(payload) or 1))
                    if flags & frames.END_STREAM:
                        await answering(writer, stream, bodies.pop(stream))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*serving)


def answer(stream: int, *trailers: tuple[bytes, bytes], body: bytes = b"") -> bytes:
    head = frames.frame(frames.HEADERS, frames.END_HEADERS, stream, frames.header_block([(b":status", b"200")]))
    data = frames.frame(frames.DATA, 0, stream, b"\0" + len(body).to_bytes(4, "big") + body) if body else b""
    tail = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, frames.header_block(trailers))
    return head + data + tail


@pytest.mark.parametrize("compression", ["zstd", "snappy"])
async def test_messages_of_any_size_and_many_at_once(compression: str) -> None:
    sink = Sink()
    async with receiver(sink) as made:
        packed = channel(made.ports["grpc"], compression)
        sent = [log_request(os.urandom(size).hex()) for size in (0, 1, 9_000, 100_000, 400_000)] * 4
        answers = await asyncio.gather(*[packed.call(LOGS, message, [], 20) for message in sent])
        assert answers == [b""] * len(sent)
        assert sorted(batch.payload for batch in sink.batches) == sorted(sent)
        with pytest.raises(grpc.aio.AioRpcError) as too_large:
            await packed.call(LOGS, log_request("x" * 2_000_000), [], 20)
        assert too_large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await packed.call("/no.Service/Export", b"", [], 20)
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
        await packed.close()


async def test_a_server_that_comes_back_is_found_again() -> None:
    sink = Sink()
    async with receiver(sink) as made:
        packed = channel(made.ports["grpc"])
        await packed.call(LOGS, log_request("a"), [], 20)
        await made.stop()
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await packed.call(LOGS, log_request("b"), [], 20)
        assert (gone.value.code(), "onnect" in str(gone.value.details())) == (grpc.StatusCode.UNAVAILABLE, True)
        made.config.protocols.grpc.endpoint = f"127.0.0.1:{made.ports['grpc']}"
        await made.start()
        await packed.call(LOGS, log_request("c"), [], 20)
        assert sink.count == 2
        await packed.close()


@pytest.mark.parametrize("compression", ["zstd", "snappy"])
async def test_what_is_on_the_wire_and_what_comes_back(compression: str) -> None:
    seen: list[bytes] = []

    async def reply(writer: asyncio.StreamWriter, stream: int, body: bytes) -> None:
        seen.append(body)
        # in pieces of three bytes, with a ping and an unknown frame before
        data = frames.frame(frames.PING, 0, 0, b"12345678") + frames.frame(77, 0, 0, b"x")
        data += answer(stream, (b"grpc-status", b"0"), body=b"taken")
        for at in range(0, len(data), 3):
            writer.write(data[at : at + 3])
            await writer.drain()

    async with scripted(reply) as port:
        packed = channel(port, compression)
        assert await packed.call(LOGS, b"hello " * 50_000, [("x-tenant", "t")], None) == b"taken"
        await packed.close()
    flag, size, body = seen[0][0], int.from_bytes(seen[0][1:5], "big"), seen[0][5:]
    assert (flag, size) == (1, len(body))
    read = (
        zstandard.ZstdDecompressor().decompressobj().decompress if compression == "zstd" else snappy.StreamDecompressor().decompress
    )
    assert read(body) == b"hello " * 50_000


@pytest.mark.parametrize(
    "sent,code,said",
    [
        (lambda s: answer(s, (b"grpc-status", b"3"), (b"grpc-message", b"a%20b")), "INVALID_ARGUMENT", "a b"),
        (lambda s: answer(s, (b"grpc-status", b"99")), "UNKNOWN", ""),
        (lambda s: frames.frame(1, 5, s, frames.header_block([(b":status", b"413")])), "UNKNOWN", "status: 413"),
        (lambda s: frames.frame(1, 5, s, frames.header_block([(b":status", b"503")])), "UNAVAILABLE", "status: 503"),
        (lambda s: frames.reset(s, frames.Code.REFUSED_STREAM), "UNAVAILABLE", "code 7"),
        (lambda s: frames.goaway(0, frames.Code.NO_ERROR), "UNAVAILABLE", "no more calls"),
        (lambda s: answer(s, (b"grpc-status", b"0"))[:-1] + b"\xff", "UNAVAILABLE", "headers"),
        (lambda s: struct.pack(">IBI", 0xFFFFFF00, 0, s), "UNAVAILABLE", "too large"),
        (lambda s: frames.frame(9, 0, s), "UNAVAILABLE", "header block"),
        (lambda s: b"", "DEADLINE_EXCEEDED", "0.2"),
    ],
)
async def test_answers_that_are_failures(sent: Callable[[int], bytes], code: str, said: str) -> None:
    async def reply(writer: asyncio.StreamWriter, stream: int, body: bytes) -> None:
        writer.write(sent(stream))

    async with scripted(reply) as port:
        packed = channel(port)
        with pytest.raises(grpc.aio.AioRpcError) as info:
            await packed.call(LOGS, b"a", [], 20 if code != "DEADLINE_EXCEEDED" else 0.2)
        assert (info.value.code().name, said in str(info.value.details())) == (code, True), info.value.details()
        await packed.close()
