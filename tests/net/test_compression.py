"""Compression round trips, limits before memory, other people's encoders."""

import asyncio
import gzip
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kofagent.net.budget import ByteBudget, Overloaded
from kofagent.net.compression import ENCODINGS, CorruptBody, TooLarge, UnknownEncoding, compress, decompress
from kofagent.net.unpacking import SLICE, unpack

BOMB = b"\0" * (64 * 1024 * 1024)


@pytest.mark.parametrize("name", ENCODINGS)
@given(data=st.binary(max_size=5000))
def test_round_trip(name: str, data: bytes) -> None:
    assert decompress(name, compress(name, data), len(data) + 10) == data


@pytest.mark.parametrize("name", ENCODINGS)
def test_bombs_stop_at_the_limit(name: str) -> None:
    bomb = compress(name, BOMB)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        decompress(name, bomb, 1024 * 1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024, f"{name} took {peak} bytes before it stopped"


def test_a_bomb_that_does_not_say_its_size_stops_at_the_limit() -> None:
    streamed = zstandard.ZstdCompressor().compressobj()
    bomb = streamed.compress(BOMB) + streamed.flush()
    assert zstandard.frame_content_size(bomb) == -1
    with pytest.raises(TooLarge):
        decompress("zstd", bomb, 1024 * 1024)


@pytest.mark.parametrize("name", ENCODINGS)
def test_exactly_the_limit_is_taken(name: str) -> None:
    body = compress(name, b"x" * 1000)
    assert len(decompress(name, body, 1000)) == 1000
    with pytest.raises(TooLarge):
        decompress(name, body, 999)


@pytest.mark.parametrize("name", ENCODINGS)
@given(data=st.binary(min_size=1, max_size=200))
def test_garbage_is_corrupt_not_a_crash(name: str, data: bytes) -> None:
    try:
        decompress(name, data, 1_000_000)
    except (CorruptBody, TooLarge):
        pass


@pytest.mark.parametrize("name", ["gzip", "zstd", "deflate", "snappy"])
def test_cut_off_is_corrupt(name: str) -> None:
    body = compress(name, bytes(range(256)) * 100)
    with pytest.raises(CorruptBody):
        decompress(name, body[:-3], 1_000_000)


def test_other_encoders() -> None:
    data = b"hello " * 1000
    assert decompress("gzip", gzip.compress(data[:10]) + gzip.compress(data[10:]), 10_000) == data
    assert decompress("deflate", zlib.compress(data), 10_000) == data
    assert decompress("zstd", zstandard.compress(data), 10_000) == data
    streamed = zstandard.ZstdCompressor().compressobj()  # no content size in the frame
    assert decompress("zstd", streamed.compress(data) + streamed.flush(), 10_000) == data
    assert decompress("GZIP ", gzip.compress(data), 10_000) == data
    assert decompress("identity", data, 10_000) is data
    with pytest.raises(UnknownEncoding):
        decompress("br", data, 10_000)
    with pytest.raises(UnknownEncoding):
        compress("br", data)


@pytest.mark.parametrize("name", ["", "identity", "none"])
def test_the_limit_is_for_bodies_that_are_not_compressed_too(name: str) -> None:
    assert decompress(name, b"x" * 1000, 1000) == b"x" * 1000
    with pytest.raises(TooLarge):
        decompress(name, b"x" * 1001, 1000)


@pytest.mark.parametrize("name", ENCODINGS)
async def test_slices_are_what_comes_out_in_one_go(name: str) -> None:
    """Of every size around a slice, and with what is taken from the budget; what is cut off or damaged is corrupt either way."""
    noise = bytes(i * i % 251 for i in range(SLICE + 70_000))
    for data in (b"x", noise, noise * 3, bytes(SLICE), bytes(5 * SLICE), bytes(5 * SLICE + 1)):
        packed = compress(name, data)
        held = ByteBudget(1 << 30).open()
        assert await unpack(name, packed, held, len(data)) == data
        assert held.free == (1 << 30) - len(data)
        for wrong in (packed[:-3], packed[: len(packed) // 2], packed[:5] + b"\xff" * 30 + packed[35:]):
            try:
                expected: bytes | None = decompress(name, wrong, 10 * SLICE)
            except (CorruptBody, TooLarge):
                expected = None
            try:
                assert await unpack(name, wrong, held, 10 * SLICE) == expected
            except (CorruptBody, TooLarge):
                assert expected is None


@pytest.mark.parametrize("name", ENCODINGS)
async def test_unpacking_stops_at_the_limit_and_at_the_end_of_the_room(name: str) -> None:
    bomb = compress(name, BOMB)
    with pytest.raises(TooLarge):
        await unpack(name, bomb, ByteBudget().open(), 1 << 20)
    room = ByteBudget(1 << 20)
    held = room.open()
    with pytest.raises(Overloaded):
        await unpack(name, bomb, held, 1 << 30)
    assert room.used <= room.limit
    held.close()
    assert room.used == 0


async def test_others_have_their_turn_between_slices() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await unpack("gzip", compress("gzip", bytes(40 * SLICE)), ByteBudget().open(), 40 * SLICE)
    task.cancel()
    assert turns >= 40
