"""Strings of a payload that are not UTF-8 made valid, as Go's `strings.ToValidUTF8` does: U+FFFD for each run of bad bytes.

protobuf demands UTF-8, yet not every encoder checks it, and a strict decoder at the other end refuses a whole request for one byte.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from kofagent.wire.attributes import decode_text, encode_text
from kofagent.wire.otlp import request_descriptor
from kofagent.wire.otlp_check import is_text
from kofagent.wire.varint import varint
from kofagent.wire.walk import DELIMITED, placed

_ASKED = 6
"""So many levels of messages (resource, scope, record, ...) are asked whether they need repair; of a bad record, all is read."""


def repair(signal: str, payload: bytes) -> tuple[bytes, int]:
    """A well-formed payload with every string made valid, and how many were not."""
    repairing = _Repair(signal)
    repairing.message(request_descriptor(signal), payload, 0, len(payload), 1)
    return b"".join(repairing.out), repairing.bad


@cache
def _texts_and_messages(descriptor: Any) -> dict[int, Any]:
    """The fields of a message that have text in them, by number: the descriptor of what is in it, None for a string."""
    found = [field for field in descriptor.fields if field.message_type is not None or field.type == field.TYPE_STRING]
    return {field.number: field.message_type for field in found}


class _Repair:
    def __init__(self, signal: str) -> None:
        self._signal = signal
        self.out: list[bytes] = []
        self.bad = 0

    def message(self, descriptor: Any, data: bytes, begin: int, end: int, level: int) -> int:
        """Appends the message at these offsets to `out`; the bytes it has now."""
        table = _texts_and_messages(descriptor)
        size, done = 0, begin
        for number, kind, start, stop, first in placed(data, begin, end):
            if kind != DELIMITED or number not in table:
                continue
            inner = table[number]
            if inner is None:
                text = data[start:stop]
                if text.isascii() or (fixed := encode_text(decode_text(text))) == text:
                    continue
                self.bad += 1
            elif level < _ASKED and is_text(self._signal, inner.full_name, data[start:stop]):
                continue
            # all since the last change, then the changed field; its length is known when its content is
            head = len(self.out)
            self.out += [b"", b""]
            if inner is None:
                self.out.append(fixed)
                length = len(fixed)
            else:
                length = self.message(inner, data, start, stop, level + 1)
            before = data[done:first]
            tag = varint(number << 3 | DELIMITED) + varint(length)
            self.out[head], self.out[head + 1] = before, tag
            size += len(before) + len(tag) + length
            done = stop
        self.out.append(data[done:end])
        return size + end - done
