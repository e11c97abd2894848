"""Texts in which quotes keep delimiters together: rows of CSV and key=value pairs.

Operators and the transformation language read them alike. Upstream: internal/coreinternal/parseutils.
A ValueError has no data of the text in it.
"""

from __future__ import annotations


def read_row(text: str, delimiter: str, lazy: bool) -> list[str]:
    """The fields of a row, which may hold newlines (RFC 4180, with Go's encoding/csv's ideas of quotes). ValueError."""
    if not text.strip("\r\n"):
        raise ValueError("there is no row")
    out: list[str] = []
    at, end = 0, len(text)
    while True:
        if at < end and text[at] == '"':
            at += 1
            field: list[str] = []
            while True:
                close = text.find('"', at)
                if close < 0:
                    if not lazy:
                        raise ValueError("a quote is not closed")
                    field.append(text[at:])
                    at = end
                    break
                field.append(text[at:close])
                at = close + 1
                if at >= end or text[at] == delimiter:
                    break
                if text[at] == '"':
                    field.append('"')
                    at += 1
                elif text[at] in "\r\n":
                    # What follows a newline continues this field: the entry is one row.
                    following = text.find(delimiter, at)
                    following = end if following < 0 else following
                    field.append(text[at:following].replace("\r\n", "\n"))
                    at = following
                    break
                elif lazy:
                    field.append('"')
                else:
                    raise ValueError("a quote is in the middle of a field")
            out.append("".join(field))
        else:
            following = text.find(delimiter, at)
            following = end if following < 0 else following
            value = text[at:following]
            if '"' in value and not lazy:
                raise ValueError("a quote is in the middle of a field")
            out.append(value.replace("\r\n", "\n"))
            at = following
        if at >= end:
            return out
        at += 1


def split_quoted(text: str, delimiter: str) -> list[str]:
    """The parts between delimiters that are not in quotes, without quotes and empty parts; ValueError for an unclosed quote."""
    out: list[str] = []
    current: list[str] = []
    quote = ""
    escaped = False
    at = 0
    while at < len(text):
        if not quote and text.startswith(delimiter, at):
            if current:
                out.append("".join(current))
                current = []
            at += len(delimiter)
            continue
        char = text[at]
        at += 1
        if escaped:
            escaped = False
        else:
            if not quote and char in "\"'":
                quote = char
                continue
            if char == quote:
                quote = ""
                continue
            escaped = char == "\\"
        current.append(char)
    if quote:
        raise ValueError("a quote is not closed")
    if current:
        out.append("".join(current))
    return out
