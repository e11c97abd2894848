"""Encodings of log files: upstream's names, and how to find a newline in each without decoding.

Upstream takes the names of IANA's registry (golang.org/x/text/encoding/ianaindex), `utf8-raw` and `nop`. Those that Python does
not know are in `_PYTHON`; others that Python knows are taken, too. Where upstream's decoder knows more characters than the codec
that Python has under the name, as WHATWG's tables do, it is Python's codec for those.
"""

from __future__ import annotations

import codecs

from kofagent.config.compat import is_text_codec

_UTF8 = {"", "utf-8", "utf8", "ascii", "us-ascii", "csutf8", "unicode-1-1-utf-8"}
_RAW = {"utf-8-raw", "utf8-raw"}
_PLAIN_UTF16 = {"utf-16", "utf16", "csutf16"}
_PYTHON = {
    name: codec
    for codec, names in {
        "big5hkscs": "big5 csbig5 big5-hkscs cn-big5 x-x-big5",
        "cp858": "ibm00858 ccsid00858 cp00858 pc-multilingual-850+euro csibm00858",
        "cp874": "windows-874 cswindows874 dos-874",
        "cp932": "shift_jis shift-jis ms_kanji csshiftjis sjis x-sjis windows-31j cswindows31j ms932",
        "cp949": "euc-kr cseuckr windows-949 ks_c_5601-1987 ks_c_5601-1989 ksc_5601 ksc5601 korean iso-ir-149 csksc56011987",
        "cp1047": "ibm1047 ibm-1047 csibm1047",
        "cp1140": "ibm01140 ccsid01140 cp01140 ebcdic-us-37+euro csibm01140",
        "euc_jp": "extended_unix_code_packed_format_for_japanese cseucpkdfmtjapanese x-euc-jp",
        "gb18030": "csgb18030",
        "gbk": "windows-936 csgbk x-gbk",
        "iso8859-6": "iso_8859-6-e iso-8859-6-e csiso88596e iso_8859-6-i iso-8859-6-i csiso88596i",
        "iso8859-8": "iso_8859-8-e iso-8859-8-e csiso88598e iso_8859-8-i iso-8859-8-i csiso88598i",
        "iso8859-13": "csiso885913",
        "iso8859-14": "csiso885914",
        "iso8859-15": "latin-9 csiso885915",
        "iso8859-16": "csiso885916",
        "koi8-u": "cskoi8u koi8-ru",
        "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
        "mac-roman": "mac csmacintosh x-mac-roman",
        "utf-16-be": "csutf16be",
        "utf-16-le": "csutf16le",
        **{f"cp{n}": f"cswindows{n} x-cp{n}" for n in range(1250, 1259)},
    }.items()
    for name in names.split()
}
"""Name in lower case -> Python's codec, where that is not the codec of this name."""
_MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def _cp1047(name: str) -> codecs.CodecInfo | None:
    """EBCDIC of z/OS, which Python does not have: code page 37 but for brackets and the like."""
    if name != "cp1047":
        return None
    table = list(bytes(range(256)).decode("cp037"))
    for at, character in {0x5F: "^", 0xAD: "[", 0xB0: "\xac", 0xBA: "\xdd", 0xBB: "\xa8", 0xBD: "]"}.items():
        table[at] = character
    decoding = "".join(table)
    encoding = codecs.charmap_build(decoding)
    return codecs.CodecInfo(
        encode=lambda text, errors="strict": codecs.charmap_encode(text, errors, encoding),
        decode=lambda data, errors="strict": codecs.charmap_decode(data, errors, decoding),
        name="cp1047",
    )


codecs.register(_cp1047)


class Encoding:
    """How the bytes of a file become text.

    `utf8`: the bytes are UTF-8 already (`replace`: invalid sequences become U+FFFD). `whole`: no text at all, the bytes of
    one read are one entry. `newline` is the encoded newline, found at offsets that are a multiple of `width`. `mark` is the byte
    order mark, which is no text at the beginning of a file; `other` the encoding of files that have its mark there instead.
    """

    __slots__ = ("codec", "mark", "name", "newline", "other", "replace", "utf8", "whole", "width")

    def __init__(
        self, name: str, codec: str, *, utf8: bool = False, replace: bool = True, whole: bool = False, other: Encoding | None = None
    ) -> None:
        self.name = name
        self.codec = codec
        self.utf8 = utf8
        self.replace = replace
        self.whole = whole
        self.newline = b"\n" if utf8 or whole else "\n".encode(codec)
        self.width = len(self.newline)
        self.mark = _MARKS.get(codec, b"")
        self.other = other

    def of_mark(self, head: bytes) -> Encoding:
        """The encoding of a file that begins with these bytes, of which the first two are enough."""
        return self.other if self.other is not None and head.startswith(self.other.mark) else self

    def unfinished(self, data: bytes) -> int:
        """How many bytes at the end of `data`, which starts at a character, are the beginning of one that is not complete."""
        if self.whole or not data:
            return 0
        tail = data
        if self.utf8 or self.width > 1:
            tail = data[max(0, len(data) // self.width - 8) * self.width :]
        if self.utf8:
            while tail and tail[0] & 0xC0 == 0x80:
                tail = tail[1:]
        try:
            decoder = codecs.getincrementaldecoder(self.codec)("replace")
        except LookupError:
            return 0  # one byte is one character
        decoder.decode(tail)
        return len(decoder.getstate()[0])

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
        # Upstream: little endian; the mark of a file says it better.
        return Encoding("utf-16-le", "utf-16-le", other=Encoding("utf-16-be", "utf-16-be"))
    try:
        info = codecs.lookup(_PYTHON.get(lower, lower))
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
