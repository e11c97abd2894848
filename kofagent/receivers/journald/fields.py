"""A value of an entry as `journalctl -o json` shows it, and as the bytes of an OTLP map that it becomes."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from kofagent.operators.encode import key_values
from kofagent.wire.varint import varint

SHORT = 4096
"""Bytes, name included, from which on a value is null unless `all` is set, as in journalctl."""
LONGEST = 4 << 20
"""Bytes of the longest value with `all`; what is longer is null."""
LONGEST_NUMBERS = 64 << 10
"""Bytes of the longest value that is given as numbers with `all`: each takes a dozen bytes then. What is longer is null."""
GREP = 64 << 10
"""Bytes of a message that `grep` sees without `all`; sd-journal's default."""
_PLAIN = 120
"""Bytes up to which a value has lengths of one byte when it is encoded."""
_NAME = re.compile(rb"[A-Z_][A-Z0-9_]{0,63}=")
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
    + "]"
)
"""Control characters but tab and newline, and what is no character."""


class Field(NamedTuple):
    """A value of an entry. What is no field, such as one with a name that cannot be, has no name."""

    name: str
    value: Any
    """A string; a list of numbers for bytes that are not printable UTF-8, as journalctl's JSON; None for what is too long."""
    raw: bytes
    """Of MESSAGE: the value as it is in the file, as far as it was read."""
    encoded: bytes
    """`name` and `value` as an element of a KeyValueList."""
    mask: int
    """The conditions of the filter that it fulfils."""
    cut: bool
    """Whether it is null for being too long although `all` is set."""


class Style(NamedTuple):
    """Options of the receiver that say how values look."""

    everything: bool
    """`all`"""
    message_as_text: bool
    """`convert_message_bytes`"""

    @property
    def limit(self) -> int:
        """Bytes of a value that need to be read."""
        return LONGEST if self.everything else GREP


def field(data: bytes, whole: bool, style: Style, mask: int) -> Field:
    """The field of `NAME=value`; `whole`: nothing is missing of it."""
    match = _NAME.match(data)
    if match is None or match[0] == b"_BOOT_ID=":  # an entry says that itself
        return Field("", None, b"", b"", mask, False)
    end = match.end()
    name = data[: end - 1].decode()
    # hot: journal_entry, what key_values would do with short text
    if whole and len(data) < _PLAIN:
        try:
            text = data[end:].decode()
        except UnicodeDecodeError:
            pass
        else:
            if text.isprintable():
                n = len(data) - end
                inner = b"\x12%c\x0a%c" % (n + 2, n)
                pair = b"\x0a%c%b%b%b" % (end - 1, data[: end - 1], inner, data[end:])
                raw = data[end:] if name == "MESSAGE" else b""
                return Field(name, text, raw, b"\x0a" + varint(len(pair)) + pair, mask, False)
    raw = data[end:] if name == "MESSAGE" else b""
    if not whole or (len(data) >= SHORT and not style.everything):
        return Field(name, None, raw, key_values({name: None}, b"\x0a"), mask, style.everything)
    value = shown(data[end:])
    if raw and style.message_as_text and not isinstance(value, str):
        value = raw.decode("utf-8", "replace")
    return Field(name, value, raw, key_values({name: value}, b"\x0a"), mask, value is None)


def shown(raw: bytes) -> Any:
    """The value of a field as journalctl shows it; None for what is too long to be shown."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        pass
    else:
        if text.isprintable() or not _UNPRINTABLE.search(text):
            return text
    # upstream's JSON reader makes floating-point numbers of all numbers
    return list(map(float, raw)) if len(raw) <= LONGEST_NUMBERS else None
