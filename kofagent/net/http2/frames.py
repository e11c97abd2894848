"""Frames of HTTP/2 (RFC 9113, sections 4 to 6) and the headers that a gRPC server writes (RFC 7541 without a table)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = 9
"""Bytes before the payload of a frame."""
LARGEST = 16384
"""Bytes of the largest payload: SETTINGS_MAX_FRAME_SIZE as it is unless a peer says otherwise."""
WINDOW = 65535
"""Bytes of a flow-control window before anybody changes it."""
LARGEST_WINDOW = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)


class Code(IntEnum):
    """Error codes (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """The peer broke the protocol or went too far; the connection ends with this code."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


def complete(received: bytearray, at: int = 0) -> Iterator[tuple[int, int, int, bytearray, int]]:
    """The whole frames from `at` on: (kind, flags, stream, payload, where the next one begins). ConnectionFault."""
    end = len(received)
    while at + HEAD <= end:
        word, flags, stream = struct.unpack_from(">IBI", received, at)
        begin = at + HEAD
        at = begin + (word >> 8)
        if at - begin > LARGEST:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame is too large")
        if at > end:
            return
        yield word & 0xFF, flags, stream & 0x7FFFFFFF, received[begin:at], at


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in values.items()))


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def reset(stream: int, code: Code) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def goaway(last: int, code: Code, why: str = "") -> bytes:
    """A GOAWAY frame: streams above `last` were not looked at."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + why.encode())


def content(flags: int, payload: bytes | bytearray) -> bytes | bytearray:
    """The payload of DATA or HEADERS without padding and priority. ConnectionFault."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "no pad length")
        start, end = 1, end - payload[0]
    if flags & HAS_PRIORITY:
        start += 5
    if start > end:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[start:end] if flags & (PADDED | HAS_PRIORITY) else payload


def _length(value: int, prefix: int, first: int = 0) -> bytes:
    """An integer of HPACK (RFC 7541, section 5.1)."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def header_block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as literals that no table remembers; `:status: 200` as the one byte it has in the static table."""
    out = bytearray()
    for name, value in headers:
        if name == b":status" and value == b"200":
            out.append(0x88)
            continue
        out.append(0)
        out += _length(len(name), 7) + name + _length(len(value), 7) + value
    return bytes(out)
