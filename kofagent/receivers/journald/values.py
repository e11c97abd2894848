"""The fields of entries. Most values are shared by many entries of a file, so that a value is read and worked out once."""

from __future__ import annotations

from kofagent.memory.memo import Memo, sizeof
from kofagent.receivers.journald.fields import SHORT, Field, Style, field
from kofagent.receivers.journald.file import Entry, JournalFile
from kofagent.receivers.journald.header import Damaged
from kofagent.receivers.journald.matches import Matches

LONGEST_ENTRY = 8 << 20
"""Bytes of the values of one entry; those beyond are null."""


def _cost(place: int, value: Field) -> int:
    return 450 + len(value.encoded) + sizeof(value.value) + len(value.raw)


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
        known, out, bad, size = self._known, [], 0, 0
        for place in entry.items:
            # hot: journal_entry, most values are known
            value = known.get(place)
            if value is None:
                value = known.find(place)
                if value is None:
                    try:
                        value = self._read(place, size)
                    except (Damaged, OSError):
                        bad += 1
                        continue
                    known[place] = value
                    size += len(value.encoded)
            out.append(value)
        if not out:
            raise Damaged("none of its values can be read")
        return out, bad

    def _read(self, place: int, size: int) -> Field:
        data, whole = self._file.value(place, self._limit if size < LONGEST_ENTRY else SHORT)
        return field(data, whole, self._style, self._matches.mask(data))

    def forget(self) -> None:
        """Lets go of what is known."""
        self._known.clear()
