"""The gRPC server's HTTP/2: whatever one client does, others are served, and what it may cost is bounded."""

from __future__ import annotations

import asyncio
import gc
import gzip
import resource
import struct
import weakref
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import snappy
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kofagent.config.blocks import GrpcServerBlock
from kofagent.net import accept, budget
from kofagent.net.budget import ByteBudget, Overloaded
from kofagent.net.compression import CorruptBody, TooLarge
from kofagent.net.grpc_server import Call, GrpcServer, Status
from kofagent.net.http2 import frames
from kofagent.net.http2.connection import Http2Connection
from kofagent.net.http2.frames import Code, frame
from kofagent.net.http2.limits import Limits
from kofagent.net.http2.stream import Stream
from tests.support.components import eventually
from tests.support.raw_http2 import RawHttp2


class Echo:
    """A server whose one method gives its message back, after `gate` if there is one."""

    def __init__(self, room: int = 0, **options: Any) -> None:
        self.budget = ByteBudget(room)
        block = GrpcServerBlock.model_validate({"endpoint": "127.0.0.1:0", **options})
        self.server = GrpcServer(block, "test", {"test": {"Echo": self.echo}}, self.budget)
        self.gate: asyncio.Event | None = None
        self.entered = 0
        self.metadata: list[tuple[str, str]] = []

    async def echo(self, call: Call) -> bytes:
        self.metadata = call.metadata()
        try:
            message = await call.message()
        except Overloaded:
            await call.abort(Status.UNAVAILABLE, "overloaded")
        except TooLarge:
            await call.abort(Status.RESOURCE_EXHAUSTED, "too large")
        except CorruptBody:
            await call.abort(Status.INVALID_ARGUMENT, "corrupt")
        self.entered += 1
        if self.gate is not None:
            await self.gate.wait()
        return message


@asynccontextmanager
async def running(room: int = 0, **options: Any) -> AsyncIterator[Echo]:
    echo = Echo(room, **options)
    await echo.server.start()
    try:
        yield echo
    finally:
        await echo.server.stop()


async def good(echo: Echo, calls: int = 20) -> int:
    """How many of the calls of a proper client on one connection are answered."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{echo.server.port}") as channel:
        method = channel.unary_unary("/test/Echo")
        answers = await asyncio.gather(*(method(b"good %d" % i, timeout=20) for i in range(calls)), return_exceptions=True)
    return sum(answer == b"good %d" % i for i, answer in enumerate(answers))


async def test_a_flood_of_calls_that_are_given_up_costs_one_connection() -> None:
    async with running() as echo:
        echo.gate = asyncio.Event()
        calls = asyncio.create_task(good(echo))
        await eventually(lambda: echo.entered == 20)
        async with RawHttp2(echo.server.port) as client:
            for _ in range(1000):
                stream = client.headers()
                client.send(frames.reset(stream, Code.CANCEL))
            assert await client.closed() == Code.ENHANCE_YOUR_CALM
        echo.gate.set()
        assert await calls == 20
        assert await good(echo) == 20


def begun(client: RawHttp2) -> bytes:
    return frame(frames.HEADERS, 0, client.next, b"\x88")


FLOODS: dict[str, Callable[[RawHttp2], bytes]] = {
    "pings": lambda client: frame(frames.PING, 0, 0, bytes(8)) * 10_000,
    "answers to pings": lambda client: frame(frames.PING, frames.ACK, 0, bytes(8)) * 10_000,
    "settings": lambda client: frames.settings({3: 1}) * 10_000,
    "priorities": lambda client: frame(frames.PRIORITY, 0, 1, bytes(5)) * 10_000,
    "unknown frames": lambda client: frame(99, 0, 0, b"x") * 10_000,
    "windows": lambda client: frames.window_update(0, 1) * 10_000,
    "empty data": lambda client: frame(frames.DATA, 0, client.headers(), b"") * 10_000,
    "data of one byte": lambda client: frame(frames.DATA, 0, client.headers(), b"\0") * 10_000,
    "continuations": lambda client: begun(client) + frame(frames.CONTINUATION, 0, client.next, b"\x88" * 16000) * 8,
    "empty continuations": lambda client: begun(client) + frame(frames.CONTINUATION, 0, client.next, b"") * 10_000,
    # 4000 bytes are remembered once and then named by an index of one byte 15 000 times
    "a bomb of headers": lambda client: frame(
        frames.HEADERS,
        4,
        client.next,
        b"\x40\x01a" + b"\x7f" + bytes([4000 - 127 & 127 | 128, 4000 - 127 >> 7]) + b"b" * 4000 + b"\xbe" * 9000,
    ),
    "calls above the limit": lambda client: (frame(frames.HEADERS, 4, 1, b"\x83\x84\x87"), [client.headers() for _ in range(400)])[
        0
    ],
}


@pytest.mark.parametrize("name", FLOODS)
async def test_floods_end_the_connection_that_sent_them(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running(max_concurrent_streams=10) as echo:
        echo.gate = asyncio.Event()
        async with RawHttp2(echo.server.port) as client:
            flood = FLOODS[name](client)
            if name == "calls above the limit":
                flood = b""
            client.send(flood)
            assert await client.closed() == Code.ENHANCE_YOUR_CALM
        await eventually(lambda: not echo.server.connections)
        echo.gate.set()
        assert await good(echo, 3) == 3
        assert not caplog.records


WRONG = {
    "no preface": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Code.PROTOCOL_ERROR),
    "a huge frame": (frames.PREFACE + b"\xff\xff\xff" + bytes(6), Code.FRAME_SIZE_ERROR),
    "data without a call": (frames.PREFACE + frame(frames.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "padding over the end": (frames.PREFACE + frame(frames.HEADERS, 0xC, 1, b"\xff\x82"), Code.PROTOCOL_ERROR),
    "a broken header block": (
        frames.PREFACE + frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
        Code.COMPRESSION_ERROR,
    ),
    "headers of an even stream": (frames.PREFACE + frame(frames.HEADERS, 4, 2, b"\x83"), Code.PROTOCOL_ERROR),
    "an interrupted block": (frames.PREFACE + frame(frames.HEADERS, 0, 1, b"\x83") + frames.settings({}), Code.PROTOCOL_ERROR),
    "a window of nothing": (frames.PREFACE + frames.window_update(0, 0), Code.FLOW_CONTROL_ERROR),
    "a window too large": (frames.PREFACE + frames.window_update(0, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
    "a push": (frames.PREFACE + frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_is_not_http2_ends_with_the_code_that_says_so(name: str) -> None:
    data, code = WRONG[name]
    async with running() as echo:
        client = RawHttp2(echo.server.port)
        client.reader, client.writer = await asyncio.open_connection("127.0.0.1", echo.server.port)
        client.send(data)
        assert await client.closed() == code
        client.writer.close()


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.ended = False

    def write(self, data: Any) -> None:
        assert not self.ended
        self.out += data

    def close(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


_FRAMES = st.builds(
    frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0xC, 0x20, 0x2D]),
    st.integers(0, 5),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\x83\x84", bytes(4), bytes(5), bytes(8), struct.pack(">I", 9)])),
)


@given(st.lists(st.one_of(_FRAMES, st.binary(max_size=12)), max_size=12), st.integers(1, 30))
def test_no_bytes_do_more_than_end_their_connection(pieces: list[bytes], step: int) -> None:
    """Whatever comes, in pieces of any size: nothing is raised, no room stays taken, and the answer is whole frames."""

    async def run() -> None:
        room = ByteBudget(1000)
        wire = Wire()

        async def serve(stream: Any) -> None:
            try:
                await stream.read()
            except Exception:
                pass
            await stream.answer(b"\x88", b"data", ((b"grpc-status", b"0"),))

        connection = Http2Connection(serve, room, Limits(streams=2), set())
        connection.connection_made(wire)
        data = frames.PREFACE + b"".join(pieces)
        for at in range(0, len(data), step):
            if wire.ended:
                break
            connection.data_received(data[at : at + step])
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert room.used == 0 and not room._coming
        at = 0
        while at < len(wire.out):
            at += 9 + int.from_bytes(wire.out[at : at + 3], "big")
        assert at == len(wire.out)

    asyncio.run(run())


async def test_messages_that_never_end_take_no_more_than_the_room_and_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "PATIENCE", 0.0)
    room = 1 << 20
    async with running(room) as echo:
        attackers = [RawHttp2(echo.server.port) for _ in range(4)]
        most = 0
        for attacker in attackers:
            await attacker.__aenter__()
            for _ in range(20):
                attacker.message(attacker.headers(), bytes(50_000), end=False, size=4 << 20)
            await attacker.writer.drain()
            most = max(most, echo.budget.used)
        await eventually(lambda: echo.budget.used > room // 4)
        assert await good(echo) == 20
        assert max(most, echo.budget.used) <= room // 2 + 16384
        for attacker in attackers:
            await attacker.__aexit__()
        await eventually(lambda: echo.budget.used == 0)


async def test_more_than_the_room_is_refused_and_the_rest_of_it_thrown_away() -> None:
    async with running(100_000) as echo, RawHttp2(echo.server.port) as client:
        stream = client.headers()
        client.message(stream, bytes(900_000))
        headers, _ = await client.answer(stream)
        assert headers["grpc-status"] == "14"
        assert echo.budget.used == 0
        client.message(stream := client.headers(), b"small")
        assert (await client.answer(stream))[1] == b"\0\0\0\0\x05small"


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "snappy": lambda data: snappy.StreamCompressor().add_chunk(data),
}


@pytest.mark.parametrize("name", COMPRESSED)
async def test_compressed_messages(name: str) -> None:
    pack = COMPRESSED[name]
    message = b"some text " * 50_000
    async with running(1 << 30) as echo, RawHttp2(echo.server.port) as client:
        stream = client.headers(("grpc-encoding", name))
        client.message(stream, pack(message), flag=1)
        # the answer is larger than the windows of a client that does not know it
        client.send(frames.window_update(0, 1 << 20) + frames.window_update(stream, 1 << 20))
        headers, data = await client.answer(stream)
        assert headers["grpc-status"] == "0" and data[5:] == message
        assert set(headers["grpc-accept-encoding"].split(",")) == {"identity", *COMPRESSED}
        client.message(stream := client.headers(("grpc-encoding", name)), pack(bytes(30_000_000)), flag=1)
        assert (await client.answer(stream))[0]["grpc-status"] == "8"
        client.message(stream := client.headers(("grpc-encoding", name)), b"\x01not this", flag=1)
        assert (await client.answer(stream))[0]["grpc-status"] == "3"
        await eventually(lambda: echo.budget.used == 0)


MESSAGES: dict[str, tuple[tuple[tuple[str, str], ...], int, bytes, int | None, str]] = {
    "an unknown compression": ((("grpc-encoding", "br"),), 1, b"x", None, "12"),
    "no compression named": ((), 1, b"x", None, "3"),
    "a wrong flag": ((), 7, b"x", None, "3"),
    "two messages": ((), 0, b"xxxx", 2, "3"),
    "half a message": ((), 0, b"xx", 4, "3"),
    "too large": ((), 0, b"xx", 5 << 20, "8"),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_messages_that_are_wrong(name: str) -> None:
    headers, flag, message, size, status = MESSAGES[name]
    async with running() as echo, RawHttp2(echo.server.port) as client:
        client.message(stream := client.headers(*headers), message, flag=flag, size=size)
        assert (await client.answer(stream))[0]["grpc-status"] == status
        stream = client.headers(path="/test/None", end=True)
        assert (await client.answer(stream))[0]["grpc-status"] == "12"
        client.message(stream := client.headers(("x-key", "k")), b"good")
        assert (await client.answer(stream))[1] == b"\0\0\0\0\x04good"
        assert echo.metadata == [("content-type", "application/grpc"), ("x-key", "k")]


async def test_an_answer_waits_for_the_room_that_the_client_gives() -> None:
    async with running() as echo, RawHttp2(echo.server.port, {frames.INITIAL_WINDOW_SIZE: 3}) as client:
        client.message(stream := client.headers(), b"0123456789")
        data = b""
        while len(data) < 15:
            kind, _, id, payload = await client.frame()
            if kind == frames.DATA:
                assert id == stream and len(payload) <= 3
                data += payload
                client.send(frames.window_update(stream, len(payload)))
        assert data[5:] == b"0123456789"
        assert echo.entered == 1


async def test_a_call_whose_time_is_over_is_cancelled() -> None:
    async with running() as echo, RawHttp2(echo.server.port) as client:
        echo.gate = asyncio.Event()
        client.message(stream := client.headers(("grpc-timeout", "50m")), b"x")
        assert (await client.answer(stream))[0] == {":reset": str(int(Code.CANCEL))}


TIMES: dict[str, tuple[dict[str, str], int | None]] = {
    "max_connection_idle": ({"max_connection_idle": "50ms"}, 0),
    "max_connection_age": ({"max_connection_age": "50ms"}, 0),
    "time": ({"time": "50ms", "timeout": "50ms"}, None),
}


@pytest.mark.parametrize("name", TIMES)
async def test_connections_that_nobody_needs_end(name: str) -> None:
    parameters, code = TIMES[name]
    async with running(keepalive={"server_parameters": parameters}) as echo, RawHttp2(echo.server.port) as client:
        client.message(stream := client.headers(), b"x")
        assert (await client.answer(stream))[0]["grpc-status"] == "0"
        assert await client.closed() == code
        await eventually(lambda: not echo.server.connections)


async def test_slow_clients_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.net.http2.connection.PREFACE_SECONDS", 0.05)
    async with running() as echo:
        echo.server._limits.stall_seconds = 0.1
        async with RawHttp2(echo.server.port) as stalled:
            stalled.message(stream := stalled.headers(), b"x", size=9, end=False)
            assert (await stalled.answer(stream))[0]["grpc-status"] == "4"
        for begin in (b"", frames.PREFACE[:5], frames.PREFACE + frame(frames.HEADERS, 0, 1, b"\x83")):
            reader, writer = await asyncio.open_connection("127.0.0.1", echo.server.port)
            writer.write(begin)
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()


async def test_calls_under_way_end_before_the_server_does() -> None:
    async with running() as echo:
        echo.gate = asyncio.Event()
        calls = asyncio.create_task(good(echo, 3))
        await eventually(lambda: echo.entered == 3)
        stop = asyncio.create_task(echo.server.stop())
        await asyncio.sleep(0)
        echo.gate.set()
        assert await calls == 3
        await stop


async def test_many_idle_connections_do_not_keep_others_out(caplog: pytest.LogCaptureFixture) -> None:
    async with running(max_connections=5) as echo:
        writers = [(await asyncio.open_connection("127.0.0.1", echo.server.port))[1] for _ in range(30)]
        for _ in range(3):
            assert await good(echo, 5) == 5
        assert echo.server.connections <= 5
        assert caplog.text.count("max_connections") == 1
        for writer in writers:
            writer.close()


async def test_no_file_descriptor_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """What the system refuses costs one line, idle connections make room, and calls are answered as soon as there is some."""
    async with running() as echo:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        last = (await asyncio.open_connection("127.0.0.1", echo.server.port))[1]
        top = last.get_extra_info("socket").fileno()
        writers = [last]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (top + 30, before[1]))
            with pytest.raises(OSError, match="Too many open files"):
                for _ in range(100):
                    writers.append((await asyncio.open_connection("127.0.0.1", echo.server.port))[1])
            await eventually(lambda: "ulimit" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for writer in writers:
                writer.close()
        assert await good(echo, 5) == 5
        assert caplog.text.count("cannot accept") == 1
        assert "Traceback" not in caplog.text


def test_the_number_of_connections_leaves_files_for_the_rest() -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert accept.connection_limit(5) == 5
    assert accept.connection_limit(1 << 30) == accept.connection_limit(0) <= max(16, soft // 4)


def coming(room: ByteBudget, size: int, gone: list[int]) -> Any:
    """A body of which `size` bytes came, and that is not complete."""
    held = room.open()
    held.give_way = lambda: gone.append(size)
    held.take(size)
    return held


def test_large_bodies_that_are_not_complete_give_way_to_small_ones_at_once() -> None:
    room, gone = ByteBudget(1000), []
    held = [coming(room, size, gone) for size in (300, 200)]
    with pytest.raises(Overloaded):  # half of the room is theirs
        held[1].take(1)
    held[0].close()
    held[1].take(300)
    small = coming(room, 100, gone)
    small.take(50)
    assert gone == [200] and room.coming == room.used == 150
    small.arrived()
    assert (room.coming, room.used) == (0, 150)
    whole = room.open()
    whole.take(850)
    small.close(), whole.close()
    assert room.used == 0


async def test_a_call_that_was_refused_goes_without_the_garbage_collector() -> None:
    """With what came of its message, up to the largest that is taken."""
    owner: Any = SimpleNamespace(loop=asyncio.get_running_loop(), limits=Limits(), peer="", peer_window=1)
    gc.collect()
    gc.disable()
    try:
        call = Stream(owner, 1, [], ByteBudget(1000).open(), 0.0)
        gone = weakref.ref(call)
        call.data(b"\0\0\0\x0f\xff" + bytes(200), 0.0)
        call.data(bytes(900), 0.0)
        try:
            await call.read()
        except Overloaded:
            pass
        else:
            raise AssertionError("there was room")
        del call
        assert gone() is None
    finally:
        gc.enable()
