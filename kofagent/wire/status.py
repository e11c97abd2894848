"""`google.rpc.Status`, the error message of OTLP, with `RetryInfo` among its details.

Status    { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3 }
Any       { string type_url = 1; bytes value = 2 }
RetryInfo { google.protobuf.Duration retry_delay = 1 }      Duration { int64 seconds = 1; int32 nanos = 2 }
"""

from __future__ import annotations

from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import length_delimited, varint

RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_lens = lenses(
    "kofagent.status",
    {
        "Status": {"code": (1, "int32"), "message": (2, "bytes"), "details": (3, "*Any")},
        "Any": {"type_url": (1, "bytes"), "value": (2, "bytes")},
        "RetryInfo": {"retry_delay": (1, "Duration")},
        "Duration": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    },
)


def encode_status(code: int, message: str, retry_after: float | None = None) -> bytes:
    """A Status; `retry_after` seconds (not negative) become a RetryInfo."""
    out = (b"\x08" + varint(code) if code else b"") + length_delimited(2, message.encode("utf-8", "replace"))
    if retry_after is not None:
        seconds, nanos = int(retry_after), int(retry_after % 1 * 1e9)
        duration = (b"\x08" + varint(seconds) if seconds else b"") + (b"\x10" + varint(nanos) if nanos else b"")
        out += length_delimited(3, length_delimited(1, RETRY_INFO) + length_delimited(2, length_delimited(1, duration)))
    return out


def decode_status(data: bytes) -> tuple[int, str, float | None]:
    """Code, message and the seconds of a RetryInfo (None without one) of a Status. ValueError if malformed."""
    status = parse(_lens["Status"], data)
    retry_after = None
    for detail in status.details:
        if detail.type_url == RETRY_INFO:
            delay = parse(_lens["RetryInfo"], detail.value).retry_delay
            retry_after = max(0.0, delay.seconds + delay.nanos / 1e9)
    return status.code, status.message.decode("utf-8", "replace"), retry_after


_RESPONSE = lenses(
    "kofagent.response",
    {
        "Response": {"partial_success": (1, "PartialSuccess")},
        "PartialSuccess": {"rejected": (1, "int64"), "error_message": (2, "bytes")},
    },
)["Response"]


def decode_partial_success(data: bytes) -> tuple[int, str]:
    """Rejected items and message of an Export*ServiceResponse of any signal; (0, "") for full success. ValueError if malformed."""
    partial = parse(_RESPONSE, data).partial_success
    return max(0, partial.rejected), partial.error_message.decode("utf-8", "replace")
