"""Large pages are read in parts, so that what each line needs for a moment is needed for the lines of a part only."""

from __future__ import annotations

from collections.abc import Iterator

SMALL = 256 << 10
"""A page of at most this many bytes is not large, whatever its lines are."""
LARGE, MANY = 2 << 20, 20_000
"""A page of more bytes or more lines is large."""
PART = 256 << 10
"""Bytes of a part."""
LINE_BYTES = 64
"""What a line of a large page needs until the page is handed on: its place in the columns, its value."""
SERIES_BYTES, PER_BYTE = 600, 3
"""What a series keeps: the objects, and its text in three forms."""
NEW_BYTES = 230
"""What a series that was not known before needs besides, until the page is read."""
_HASH = ord("#")


def is_large(page: bytes) -> bool:
    """Whether a page is to be read in parts."""
    size = len(page)
    return size > SMALL and (size > LARGE or page.count(b"\n") > MANY)


def of(page: bytes) -> Iterator[list[bytes]]:
    """The lines of a page, as `page.split(b"\\n")` gives them, part by part."""
    at, end = 0, len(page)
    while at + PART < end:
        cut = page.find(b"\n", at + PART)
        if cut < 0:
            break
        yield page[at:cut].split(b"\n")
        at = cut + 1
    yield page[at:].split(b"\n")


def samples(page: bytes) -> Iterator[list[bytes]]:
    """The lines that are not blank and no comments, part by part."""
    for lines in of(page):
        yield [line for line in lines if line and line[0] != _HASH]


def comments(page: bytes) -> list[bytes]:
    """The comments of a page."""
    return [line for lines in of(page) for line in lines if line[:1] == b"#"]


def framed(page: bytes, comments: list[bytes]) -> bool:
    """Whether blank lines and `# EOF` are only where OpenMetrics has them."""
    bare = page.removesuffix(b"\n")
    return (
        (bare == b"# EOF" or bare.endswith(b"\n# EOF"))
        and comments.count(b"# EOF") == 1
        and b"\n\n" not in page
        and not page.startswith(b"\n")
    )


def cost(size: int, lines: int, known: int, most_series: int = 0) -> int:
    """Bytes that reading a page of this size may take besides the page itself, when `known` lines were on the page before.

    At most `most_series` of the others are kept (0: all of them may be).
    """
    fresh = max(0, lines - known)
    length = size // max(1, lines)
    kept = min(fresh, max(0, most_series - known) + PART * lines // max(1, size)) if most_series else fresh
    return lines * LINE_BYTES + kept * new_bytes(length) + (fresh - kept) * (LINE_BYTES + length)


def new_bytes(length: int) -> int:
    """Bytes that a series of a line of this length takes while the page is read that has it for the first time."""
    return SERIES_BYTES + NEW_BYTES + PER_BYTE * length
