"""Encodings by every name that upstream's filelog takes, marks of the order of bytes, and characters that are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kofagent.receivers.filelog.encodings import Encoding, lookup
from kofagent.receivers.filelog.splitting import Limit
from tests.receivers.filelog.support import Store, Tailing, attributes
from tests.receivers.filelog.test_tailing import append

NAMES = {
    "ascii": "us-ascii iso-ir-6 ansi_x3.4-1968 ansi_x3.4-1986 iso_646.irv:1991 iso646-us us ibm367 cp367 csascii",
    "utf-8": "utf-8 csutf8",
    "utf-16-le": "utf-16 csutf16 utf-16le csutf16le",
    "utf-16-be": "utf-16be csutf16be",
    "cp037": "ibm037 cp037 ebcdic-cp-us ebcdic-cp-ca ebcdic-cp-wt ebcdic-cp-nl csibm037",
    "cp437": "ibm437 cp437 437 cspc8codepage437",
    "cp850": "ibm850 cp850 850 cspc850multilingual",
    "cp852": "ibm852 cp852 852 cspcp852",
    "cp855": "ibm855 cp855 855 csibm855",
    "cp858": "ibm00858 ccsid00858 cp00858 pc-multilingual-850+euro csibm00858",
    "cp860": "ibm860 cp860 860 csibm860",
    "cp862": "ibm862 cp862 862 cspc862latinhebrew",
    "cp863": "ibm863 cp863 863 csibm863",
    "cp865": "ibm865 cp865 865 csibm865",
    "cp866": "ibm866 cp866 866 csibm866",
    "cp1047": "ibm1047 ibm-1047 csibm1047",
    "cp1140": "ibm01140 ccsid01140 cp01140 ebcdic-us-37+euro csibm01140",
    "iso8859-1": "iso_8859-1:1987 iso-ir-100 iso_8859-1 iso-8859-1 latin1 l1 ibm819 cp819 csisolatin1",
    "iso8859-2": "iso_8859-2:1987 iso-ir-101 iso_8859-2 iso-8859-2 latin2 l2 csisolatin2",
    "iso8859-3": "iso_8859-3:1988 iso-ir-109 iso_8859-3 iso-8859-3 latin3 l3 csisolatin3",
    "iso8859-4": "iso_8859-4:1988 iso-ir-110 iso_8859-4 iso-8859-4 latin4 l4 csisolatin4",
    "iso8859-5": "iso_8859-5:1988 iso-ir-144 iso_8859-5 iso-8859-5 cyrillic csisolatincyrillic",
    "iso8859-6": "iso_8859-6:1987 iso-ir-127 iso_8859-6 iso-8859-6 ecma-114 asmo-708 arabic "
    "csisolatinarabic iso_8859-6-e csiso88596e iso-8859-6-e iso_8859-6-i csiso88596i iso-8859-6-i",
    "iso8859-7": "iso_8859-7:1987 iso-ir-126 iso_8859-7 iso-8859-7 elot_928 ecma-118 greek greek8 csisolatingreek",
    "iso8859-8": "iso_8859-8:1988 iso-ir-138 iso_8859-8 iso-8859-8 hebrew csisolatinhebrew "
    "iso_8859-8-e csiso88598e iso-8859-8-e iso_8859-8-i csiso88598i iso-8859-8-i",
    "iso8859-9": "iso_8859-9:1989 iso-ir-148 iso_8859-9 iso-8859-9 latin5 l5 csisolatin5",
    "iso8859-10": "iso-8859-10 iso-ir-157 l6 iso_8859-10:1992 csisolatin6 latin6",
    "iso8859-13": "iso-8859-13 csiso885913",
    "iso8859-14": "iso-8859-14 iso-ir-199 iso_8859-14:1998 iso_8859-14 latin8 iso-celtic l8 csiso885914",
    "iso8859-15": "iso-8859-15 iso_8859-15 latin-9 csiso885915",
    "iso8859-16": "iso-8859-16 iso-ir-226 iso_8859-16:2001 iso_8859-16 latin10 l10 csiso885916",
    "koi8-r": "koi8-r cskoi8r",
    "koi8-u": "koi8-u cskoi8u",
    "mac-roman": "macintosh mac csmacintosh",
    "cp874": "windows-874 cswindows874",
    "cp1250": "windows-1250 cswindows1250",
    "cp1251": "windows-1251 cswindows1251",
    "cp1252": "windows-1252 cswindows1252",
    "cp1253": "windows-1253 cswindows1253",
    "cp1254": "windows-1254 cswindows1254",
    "cp1255": "windows-1255 cswindows1255",
    "cp1256": "windows-1256 cswindows1256",
    "cp1257": "windows-1257 cswindows1257",
    "cp1258": "windows-1258 cswindows1258",
    "euc_jp": "extended_unix_code_packed_format_for_japanese cseucpkdfmtjapanese euc-jp",
    "iso2022_jp": "iso-2022-jp csiso2022jp",
    "cp932": "shift_jis ms_kanji csshiftjis",
    "cp949": "euc-kr cseuckr",
    "gb18030": "gb18030 csgb18030",
    "gbk": "gbk cp936 ms936 windows-936 csgbk",
    "hz": "hz-gb-2312",
    "big5hkscs": "big5 csbig5",
}
"""Python's codec -> the names of encodings in golang.org/x/text/encoding/ianaindex for which that has a decoder."""


@pytest.mark.parametrize("codec", NAMES)
def test_every_name_of_upstream_is_known(codec: str) -> None:
    for name in NAMES[codec].split():
        for spelling in (name, name.upper()):
            assert lookup(spelling).codec in (codec, "utf-8" if codec == "ascii" else codec), spelling


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("windows-874", b"\xa1\x80", "\u0e01\u20ac"),
        ("ibm1047", b"\xc1\xad\xbd\x5f\xb0\xba\xbb", "A[]^\xac\xdd\xa8"),
        ("IBM00858", b"\xd5", "\u20ac"),
        ("shift_jis", b"\x87\x40", "\u2460"),
        ("euc-kr", b"\x81\x41", "\uac02"),
        ("big5", b"\x88\x56", "\u0100"),
        ("utf-8", b"\xff", "\ufffd"),
    ],
)
def test_what_the_bytes_are(name: str, data: bytes, text: str) -> None:
    assert lookup(name).text(data).decode() == text


@pytest.mark.parametrize("name", ["windows-874", "ibm1047", "cp037", "iso-2022-jp", "hz-gb-2312"])
async def test_lines_of_any_encoding(tmp_path: Path, name: str) -> None:
    encoding = lookup(name)
    word = {"cp874": "\u0e01", "cp1047": "[x]", "iso2022_jp": "\u65e5\u672c", "hz": "\u4e2d"}.get(encoding.codec, "x")
    (tmp_path / "a.log").write_bytes(f"{word} 1\r\n{word} 2\n".encode(encoding.codec))
    async with Tailing({"include": [f"{tmp_path}/*"], "encoding": name}) as t:
        assert await t.poll() == [f"{word} 1", f"{word} 2"]


MARKED = [
    ("utf-8", "utf-8-sig", "utf-8"),
    ("utf-8-raw", "utf-8-sig", "utf-8"),
    ("utf-16le", "utf-16", "utf-16-le"),
    ("utf-16", "utf-16", "utf-16-le"),
    ("utf-16", "be", "utf-16-be"),
    ("utf-16", "none", "utf-16-le"),
]


def marked(codec: str, text: str) -> bytes:
    if codec == "be":
        return b"\xfe\xff" + text.encode("utf-16-be")
    return text.encode("utf-16-le" if codec == "none" else codec)


@pytest.mark.parametrize(("name", "codec", "plain"), MARKED)
@pytest.mark.parametrize("step", [1, 1000])
async def test_a_mark_at_the_start_is_no_text(tmp_path: Path, name: str, codec: str, plain: str, step: int) -> None:
    path, store = tmp_path / "a.log", Store()
    path.write_bytes(b"")
    options: dict[str, Any] = {"include": [str(path)], "encoding": name, "include_file_record_offset": True}
    data = marked(codec, "\u65e5 1\n\ufeff2\n")
    async with Tailing(options, store=store) as t:
        await t.poll(0.01)
        for at in range(0, len(data), step):
            append(path, data[at : at + step])
            await t.poll(0.01)
        assert t.lines() == ["\u65e5 1", "\ufeff2"]  # in the middle it is what the file says
        first = len(data) - len("\u65e5 1\n\ufeff2\n".encode(plain))
        assert attributes(t.records()[0])["log.file.record_offset"] == first
    append(path, "3\n".encode(plain))
    async with Tailing(options, store=store) as t:  # the file still says the order of bytes
        assert await t.poll() == ["3"]
    path.unlink()
    path.write_bytes(marked(codec, "4 is another file\n"))
    async with Tailing({**options, "header": {"pattern": "^4", "metadata_operators": [{"type": "noop"}]}}) as t:
        append(path, "5\n".encode(plain))
        assert await t.poll() == ["5"]


@pytest.mark.parametrize(
    "options", [{"operators": [{"type": "json_parser"}]}, {"multiline": {"line_start_pattern": r"^\{"}}, {"compression": "gzip"}]
)
async def test_a_mark_in_front_of_what_is_parsed(tmp_path: Path, options: dict[str, Any]) -> None:
    import gzip

    data = b'\xef\xbb\xbf{"a":1}\n{"a":2}\n{'
    (tmp_path / "a.log").write_bytes(gzip.compress(data) if "compression" in options else data)
    async with Tailing({"include": [f"{tmp_path}/*"], **options}) as t:
        assert (await t.poll())[:2] == ['{"a":1}', '{"a":2}']
        if "operators" in options:
            assert [attributes(r)["a"] for r in t.records()] == [1, 2]


async def test_a_file_written_anew_has_a_mark_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(marked("be", "1\n"))
    async with Tailing({"include": [str(path)], "encoding": "utf-16"}) as t:
        assert await t.poll() == ["1"]
        path.write_bytes(marked("utf-16", "and 2\n"))
        await t.poll()
        await t.poll()
        assert t.lines() == ["1", "and 2"]


@pytest.mark.parametrize("name", ["utf-8", "utf-16", "utf-16be", "shift_jis", "gb18030", "euc-jp", "big5", "latin1"])
def test_no_character_is_cut(name: str) -> None:
    encoding: Encoding = lookup(name)
    text = "a\u65e5\u672ca" * 4 + ("\U0001f600a" * 3 if name.startswith(("utf", "gb")) else "")
    if name == "latin1":
        text = "caf\xe9 " * 5
    data = text.encode(encoding.codec)
    for size in range(4, 12):
        limit = Limit(size, False, encoding)
        spans = limit.apply(data, [(0, 0, len(data))])
        assert "".join(data[start:stop].decode(encoding.codec) for _, start, stop in spans) == text
        assert all(stop - start <= limit.size for _, start, stop in spans)
    for end in range(len(data) + 1):
        whole = data[: end - encoding.unfinished(data[:end])]
        assert text.startswith(whole.decode(encoding.codec))


async def test_half_a_character_waits_for_its_other_half(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"caf\xc3")
    async with Tailing({"include": [str(path)]}) as t:
        assert await t.poll() == []
        assert await t.poll(0.6) == []
        append(path, b"\xa9 ")
        assert await t.poll() == []
        assert await t.poll(0.6) == ["caf\xe9"]
        append(path, b"caf\xe9")  # no UTF-8 at all
        assert await t.poll() == []
        assert await t.poll(1.1) == ["caf\ufffd"]
