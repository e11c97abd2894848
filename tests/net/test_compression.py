"""Compression round trips, limits before memory, other people's encoders."""

import gzip
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kofagent.net.compression import ENCODINGS, CorruptBody, TooLarge, UnknownEncoding, compress, decompress

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
