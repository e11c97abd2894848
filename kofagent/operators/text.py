"""Decoding of lines that are not valid UTF-8: which bytes are replaced at once, and which wait for the next line.

A container runtime cuts long lines by bytes, possibly in the middle of a character. Where a line may be such a part, its
invalid bytes become lone surrogates (Python's `surrogateescape`), which operators pass on; joined with the next part they
are a character again. Bytes that are still invalid in the end become U+FFFD, as everywhere.
"""

from __future__ import annotations

import re

_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def whole(text: str) -> str:
    """The text with lone surrogates that form a character joined into it, and all others replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return bytes_of(text).decode("utf-8", "replace")
    return text


def bytes_of(text: str) -> bytes:
    """UTF-8 of the text, in which surrogates that stand for bytes are these bytes and others U+FFFD."""
    return _NO_BYTES.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def part(line: bytes) -> str:
    """The text of a line that may be part of a longer one."""
    return line.decode("utf-8", "surrogateescape")
