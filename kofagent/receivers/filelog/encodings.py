"""Encodings of log files: upstream's names, and how to find a newline in each without decoding."""

from __future__ import annotations

import codecs

from kofagent.config.compat import is_text_codec

_UTF8 = {"", "utf-8", "utf8", "ascii", "us-ascii"}
_RAW = {"utf-8-raw", "utf8-raw"}
_PLAIN_UTF16 = {"utf-16", "utf16"}


class Encoding:
    """How the bytes of a file become text.

    `utf8`: the bytes are UTF-8 already (`replace`: invalid sequences become U+FFFD). `whole`: no text at all, the bytes of
    one read are one entry. `newline` is the encoded newline, found at offsets that are a multiple of `width`.
    """

    __slots__ = ("codec", "name", "newline", "replace", "utf8", "whole", "width")

    def __init__(self, name: str, codec: str, *, utf8: bool = False, replace: bool = True, whole: bool = False) -> None:
        self.name = name
        self.codec = codec
        self.utf8 = utf8
        self.replace = replace
        self.whole = whole
        self.newline = b"\n" if utf8 or whole else "\n".encode(codec)
        self.width = len(self.newline)

    def after_last_newline(self, data: bytes | bytearray) -> int:
        """The offset after the last newline in `data`, which starts at a character; 0 without one."""
        at = len(data)
        while True:
            at = data.rfind(self.newline, 0, at)
            if at < 0:
                return 0
            if at % self.width == 0:
                return at + self.width
            at += self.width - 1

    def after_newline(self, data: bytes | bytearray, start: int = 0) -> int:
        """The offset after the first newline at or after `start` (start of a character); 0 without one."""
        at = start
        while True:
            at = data.find(self.newline, at)
            if at < 0:
                return 0
            if at % self.width == 0:
                return at + self.width
            at += 1

    def text(self, data: bytes) -> bytes:
        """UTF-8 of whole characters in this encoding; what is invalid becomes U+FFFD (`utf-8-raw`, `nop`: left alone)."""
        if self.utf8:
            if not self.replace or data.isascii():
                return data
            try:
                data.decode()
            except UnicodeDecodeError:
                return data.decode("utf-8", "replace").encode()
            return data
        if self.whole:
            return data
        return data.decode(self.codec, "replace").encode("utf-8", "replace")


def lookup(name: str) -> Encoding:
    """The encoding of upstream's or IANA's name; ValueError for an unknown one."""
    lower = name.lower()
    if lower in _UTF8:
        return Encoding("utf-8", "utf-8", utf8=True)
    if lower in _RAW:
        return Encoding("utf-8-raw", "utf-8", utf8=True, replace=False)
    if lower == "nop":
        return Encoding("nop", "", whole=True)
    if lower in _PLAIN_UTF16:
        lower = "utf-16-le"
    try:
        info = codecs.lookup(lower)
    except (LookupError, ValueError):
        info = None
    if info is None or not is_text_codec(info):
        raise ValueError(f"unsupported encoding {name!r}; use utf-8, utf-16le, another IANA name, or nop for raw bytes")
    if info.name == "utf-8":
        return Encoding("utf-8", "utf-8", utf8=True)
    codec = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(info.name, info.name)
    try:
        return Encoding(info.name, codec)
    except UnicodeError:
        raise ValueError(f"encoding {name!r} has no newline; use utf-8 or another encoding of text") from None
