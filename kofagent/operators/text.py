"""Text of lines that are no UTF-8: what is replaced at once, and what has to wait for the next line.

A container runtime cuts long lines by bytes, in the middle of a character if it comes to that. Where a line may be such a part, its
bytes that are no UTF-8 become lone surrogates (Python's `surrogateescape`), which operators pass on; joined with the next part they
are a character again. What is still no text in the end becomes U+FFFD, as everywhere.
"""

from __future__ import annotations

import re

_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def whole(text: str) -> str:
    """The text with bytes that belong together as the characters they are, and U+FFFD for what is none."""
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
