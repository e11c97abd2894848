"""The fields of entries. Most values are shared by many entries of a file, so that a value is read and worked out once."""

from __future__ import annotations

from typing import cast

from kofagent.memory.memo import Memo, sizeof
from kofagent.receivers.journald.fields import SHORT, Field, Style, field
from kofagent.receivers.journald.file import Entry, JournalFile
from kofagent.receivers.journald.header import Damaged
from kofagent.receivers.journald.matches import Matches

LONGEST_ENTRY = 8 << 20
"""Bytes of the values of one entry; those beyond are null."""


def _cost(place: int, value: Field) -> int:
    return 450 + len(value.encoded) + sizeof(value.value) + len(value.raw)


def _index(found: list[Field | None], start: int) -> int:
    """Where the next unknown value is, -1 without one."""
    try:
        return found.index(None, start)
    except ValueError:
        return -1


class Values:
    """The values of one file, by their place in it."""

    def __init__(self, file: JournalFile, matches: Matches, style: Style) -> None:
        self._file = file
        self._matches = matches
        self._style = style
        self._limit = style.limit
        self._known: Memo[int, Field] = Memo("journald.values", entries=4096, size=1 << 20, cost=_cost, longest=SHORT)

    def fields(self, entry: Entry) -> tuple[list[Field], int]:
        """The fields of an entry, and how many of its values cannot be read. Damaged where it is all of them."""
        # hot: journal_entry, most values are known and found by one call
        items = entry.items
        found: list[Field | None] = list(map(self._known.get, items))
        at, bad, size = -1, 0, 0
        while (at := _index(found, at + 1)) >= 0:
            try:
                value = found[at] = self._known.find(items[at]) or self._read(items[at], size)
            except (Damaged, OSError):
                bad += 1
            else:
                size += len(value.encoded)
        if bad:
            found = [value for value in found if value is not None]
            if not found:
                raise Damaged("none of its values can be read")
        return cast("list[Field]", found), bad

    def _read(self, place: int, size: int) -> Field:
        data, whole, shared = self._file.value(place, self._limit if size < LONGEST_ENTRY else SHORT)
        out = field(data, whole, self._style, self._matches.mask(data))
        if shared:
            self._known[place] = out
        return out

    def forget(self) -> None:
        """Lets go of what is known."""
        self._known.clear()
