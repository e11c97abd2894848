"""OTLP/JSON to protobuf a window at a time, for bodies whose objects would take many times the room of their text.

What is complete in the window is read by the C scanner and encoded as `otlp_json` does. What is longer is walked: its members and
elements are read one by one, down to WALKED levels of objects. Only a value that cannot be walked makes the window longer. The
results are those of `otlp_json.to_protobuf`, which is the plain twin: the last of members with the same name counts, and what is no
JSON is reported before what is no OTLP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator
from functools import cache
from typing import Any, NamedTuple

from kofagent.wire.otlp import request_descriptor
from kofagent.wire.otlp_json import Encode, decoder, encode_request, kind_of, table_of
from kofagent.wire.varint import varint

WINDOW = 256 * 1024
"""Bytes of text that are looked at together."""
OBJECTS = 8 << 20
"""A window whose objects may take more bytes is made smaller, down to a LEAST."""
LEAST = 8 * 1024
WALKED = 8
"""Levels of objects that are walked: those down to a record, a data point, and a value in its attributes or its body."""
_CHUNK = 64 * 1024
_TOKEN = 64
"""An error nearer to the end of a window may only mean that the text goes on."""
_CUT = object()
_NUMBER = frozenset("-0123456789")
_BLANKS = re.compile(r"[ \t\n\r]*").match
_scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once  # type: ignore[attr-defined]


class Conversion:
    """One body on its way. `payload` is the result when `steps` has ended."""

    def __init__(self, signal: str, text: bytes) -> None:
        encoding = json.detect_encoding(text)
        if encoding == "utf-8-sig":
            text = text[3:]
        elif encoding != "utf-8":
            text = text.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
        self._signal = signal
        self._bytes = text
        self._end = 0  # of the window, in bytes
        self._window = ""
        self._at = 0
        self._before = 0  # characters before the window
        self._last = not text  # whether the window reaches the end of the text
        self._cost = 0
        self._too_long: dict[int, bool] = {}
        self._out = _Chunks()
        self.made = 0
        """Bytes of protobuf so far."""

    def steps(self) -> Iterator[int]:
        """Goes on by a window each time; before that gives the bytes that its objects may take.

        ValueError with a short reason where the text is no OTLP/JSON.
        """
        try:
            yield from self._more()
            first = yield from self._next()
            found = yield from self._message(_Field(b"", None, False, request_descriptor(self._signal)), first, 0)
            if (yield from self._next()):
                raise self._wrong("Extra data", self._at)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if isinstance(found, ValueError):
            raise found
        assert isinstance(found, _Chunks)
        self._out, self._bytes, self._window = found, b"", ""

    def payload(self) -> bytes:
        """The request in protobuf."""
        return b"".join(self._out.parts)

    # --- the window

    def _more(self) -> Iterator[int]:
        """Makes the window longer by itself, after its beginning was let go as far as it is read."""
        left = len(self._window) - self._at
        begin, size = self._end, WINDOW
        while size > LEAST and cost(self._bytes, begin, begin + size) > OBJECTS:
            size //= 2
        size = max(size, left)
        end = _boundary(self._bytes, begin + size)
        # what is left of the window before is read again, with the new one
        self._cost = self._cost * left // max(1, len(self._window)) + cost(self._bytes, begin, end)
        yield self._cost
        piece = self._bytes[begin:end]
        try:
            text = piece.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            text = piece.decode("utf-8", "surrogateescape")
        self._before += self._at
        self._window = self._window[self._at :] + text
        self._at = 0
        self._end = end
        self._last = end >= len(self._bytes)

    def _next(self) -> Generator[int, None, str]:
        """The next character that is no blank, which is not taken; empty at the end."""
        while True:
            self._at = _BLANKS(self._window, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._window):
                return self._window[self._at]
            if self._last:
                return ""
            yield from self._more()

    def _whole(self) -> Any:
        """The value at the present place, _CUT where the window may end before the value does. ValueError where it is no JSON."""
        window = self._window
        first = window[self._at : self._at + 1]
        try:
            value, end = _scan(window, self._at)
        except StopIteration as stop:
            said, at = "Expecting value", stop.value
        except json.JSONDecodeError as error:
            said, at = error.msg, error.pos
        else:
            # a number may go on behind its point, or its exponent's sign
            if end + 2 < len(window) or (end < len(window) and first not in _NUMBER) or self._last:
                self._at = end
                return value
            return _CUT
        if self._last or (at + _TOKEN < len(window) and not said.startswith("Unterminated")):
            raise self._wrong(said, at)
        return _CUT

    def _wrong(self, said: str, at: int) -> ValueError:
        return ValueError(f"not JSON: {said} at {self._before + at}")

    # --- values

    def _value(self, name: str, field: _Field | None, depth: int) -> Generator[int, None, _Found]:
        """What a member becomes."""
        first = yield from self._next()
        if first == "[" and field is not None and field.repeated:
            return (yield from self._list(field, depth))
        if field is not None and field.message is not None and not field.repeated:
            return (yield from self._message(field, first, depth))
        value = yield from self._read(first, depth)
        if field is None or value is None:
            return None
        if field.repeated:
            return ValueError(f"{name}: a list is needed where there is {kind_of(value)}")
        return self._encoded(field, value, depth)

    def _message(self, field: _Field, first: str, depth: int) -> Generator[int, None, _Found]:
        """What a message becomes, with its tag and its length; without them at the top."""
        key = id(field)
        walk = not self._last if depth == 0 else self._too_long.get(key, False)
        if not (walk and first == "{"):
            value = yield from self._read(first, depth, whole=first != "{")
            if value is not _CUT:
                if value is None and depth and not field.repeated:
                    return None
                return self._encoded(field, value, depth)
        began = self._before + self._at
        found = yield from self._object(field.message, depth)
        self._too_long[key] = self._before + self._at - began > WINDOW // 2
        if isinstance(found, ValueError) or depth == 0:
            return found
        out = _Chunks()
        out.add(field.tag + varint(found.size))
        out.join(found)
        return out

    def _encoded(self, field: _Field, value: Any, depth: int) -> _Found:
        try:
            data = field.encode(value, depth) if field.encode is not None else encode_request(self._signal, value)
        except ValueError as error:
            return error
        out = _Chunks()
        out.add(field.tag)
        out.add(data)
        self.made += out.size
        return out

    def _read(self, first: str, depth: int, *, whole: bool = True) -> Generator[int, None, Any]:
        """The value at the present place; of what has to be walked no more than its kind with `whole`, else _CUT."""
        while (value := self._whole()) is _CUT:
            if len(self._window) - self._at >= WINDOW // 2 and first in "{[" and depth < WALKED:
                if not whole:
                    return _CUT
                if first == "{":
                    yield from self._object(None, depth)
                    return {}
                yield from self._list(None, depth)
                return []
            yield from self._more()
        return value

    def _list(self, field: _Field | None, depth: int) -> Generator[int, None, _Found]:
        """What the elements become."""
        out = _Chunks()
        wrong: ValueError | None = None
        self._at += 1
        first = yield from self._next()
        if first == "]":
            self._at += 1
            return out
        while True:
            found: _Found = None
            if field is not None and field.message is not None:
                found = yield from self._message(field, first, depth)
            else:
                value = yield from self._read(first, depth + 1)
                if field is not None and wrong is None:
                    found = self._encoded(field, value, depth)
            if isinstance(found, ValueError):
                wrong = wrong or found
            elif found is not None and wrong is None:
                out.join(found)
            after = yield from self._next()
            if after == "]":
                self._at += 1
                return wrong or out
            if after != ",":
                raise self._wrong("Expecting ',' delimiter", self._at)
            self._at += 1
            first = yield from self._next()

    def _object(self, message: Any, depth: int) -> Generator[int, None, _Chunks | ValueError]:
        """What the members become, in the order of their names' first appearance."""
        fields = _fields(message) if message is not None else {}
        members: dict[str, _Found] = {}
        self._at += 1
        first = yield from self._next()
        if first == "}":
            self._at += 1
            return _Chunks()
        while True:
            if first != '"':
                raise self._wrong("Expecting property name enclosed in double quotes", self._at)
            while (name := self._whole()) is _CUT:
                yield from self._more()
            if (yield from self._next()) != ":":
                raise self._wrong("Expecting ':' delimiter", self._at)
            self._at += 1
            field = fields.get(name)
            found = yield from self._value(name, field, depth + 1)
            if field is not None:
                members[name] = found
            after = yield from self._next()
            if after == "}":
                break
            if after != ",":
                raise self._wrong("Expecting ',' delimiter", self._at)
            self._at += 1
            first = yield from self._next()
        self._at += 1
        out = _Chunks()
        for found in members.values():
            if isinstance(found, ValueError):
                return found
            if found is not None:
                out.join(found)
        return out


class _Chunks:
    """Bytes in pieces, so that what is long is not copied once for each message that it is in."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytearray] = []
        self.size = 0

    def add(self, data: bytes | bytearray) -> None:
        """Appends."""
        if not self.parts or len(self.parts[-1]) >= _CHUNK:
            self.parts.append(bytearray())
        self.parts[-1] += data
        self.size += len(data)

    def join(self, other: _Chunks) -> None:
        """Appends what another one has, which is not used any more."""
        if other.size < _CHUNK:
            for part in other.parts:
                self.add(part)
            return
        self.parts += other.parts
        self.size += other.size


_Found = _Chunks | ValueError | None
"""What a value became, what is wrong with it, or nothing."""


class _Field(NamedTuple):
    """A field as JSON names it; `message`: the descriptor of what is in it."""

    tag: bytes
    encode: Encode | None
    repeated: bool
    message: Any


@cache
def _fields(message: Any) -> dict[str, _Field]:
    table = table_of(message)
    out = {}
    for field in message.fields:
        out[field.name] = out[field.json_name] = _Field(*table[field.name], field.message_type)
    return out


def cost(text: bytes, begin: int = 0, end: int | None = None) -> int:
    """Bytes that a part of a text takes while it is converted: as a string, as objects, encoded.

    Objects take 12 times the text as SDKs write it, 100 times at the worst. Four bytes a character where one of them needs that.
    """
    end = len(text) if end is None else min(end, len(text))
    return 8 * (end - begin) + 300 * text.count(b"{", begin, end) + 50 * text.count(b",", begin, end)


def _boundary(text: bytes, end: int) -> int:
    """The end of a piece of text that does not cut a character."""
    if end >= len(text):
        return len(text)
    for back in range(4):
        if text[end - back] & 0xC0 != 0x80:
            return end - back
    return end
