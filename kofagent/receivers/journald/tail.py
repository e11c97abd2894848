"""A file of the journal that is followed: its next entry, and what becomes of entries that cannot be read."""

from __future__ import annotations

from collections.abc import Callable

from kofagent.receivers.journald.file import Entry, JournalFile
from kofagent.receivers.journald.header import Damaged
from kofagent.receivers.journald.values import Values

DOUBT_S = 2.0
"""Seconds after which something that is damaged is not just being written."""
MOST_SKIPPED = 500
"""Entries that are passed over before others have a turn."""


class Tail:
    """A file that is followed. `lost(path, entries, why)` is told of entries that cannot be read."""

    def __init__(self, file: JournalFile, key: tuple[int, int], lost: Callable[[str, int, str], None]) -> None:
        self.file = file
        self.key = key
        self.gone = False
        """It is not found any more, so nothing is added to it."""
        self.passed: Callable[[Entry], bool] | None = None
        """Which entries at the start were taken already, where they could not be skipped at once."""
        self.known = self.most = 0
        """Entries it had when all files were first looked at in this round, and those it has."""
        self.values: Values | None = None
        """What is known of its values."""
        self.skipping = False
        """Whether there is more to pass over before the next entry."""
        self._lost = lost
        self._next: Entry | None = None
        self._doubt: float | None = None

    @property
    def id(self) -> bytes:
        """The journald that numbered its entries."""
        return self.file.header.seqnum_id

    @property
    def over(self) -> bool:
        """Whether nothing will come of it any more."""
        return self._next is None and self.file.read >= self.most and (self.gone or self.file.complete)

    def next(self, newest: int, now: float) -> Entry | None:
        """The next entry that may be taken now: one of those that were known, or one with at most the number `newest`."""
        if self._next is None:
            self._next = self._read(now)
        entry = self._next
        if entry is not None and self.file.read > self.known and entry.seqnum > newest:
            return None
        return entry

    def taken(self) -> None:
        """The next entry was taken."""
        self._next = None

    def forget(self) -> None:
        """Lets go of what is kept of the file to be faster."""
        self.file.forget()
        if self.values is not None:
            self.values.forget()

    def _read(self, now: float) -> Entry | None:
        self.skipping = False
        for _ in range(MOST_SKIPPED):
            try:
                entry = self.file.next(self.most)
            except (Damaged, OSError) as error:
                self.file.forget()  # what was read may be older than what is there
                if self._may_pass(now):
                    return None
                self._lost(self.file.path, self.file.step_over(self.most), str(error))
                continue
            self._doubt = None
            if entry is None or self.passed is None or not self.passed(entry):
                if entry is not None:
                    self.passed = None
                return entry
        self.skipping = True
        return None

    def _may_pass(self, now: float) -> bool:
        """Whether what is damaged may be what is just being written. One that is given up makes no doubt of the next."""
        if not self.file.online or self.gone:
            return False
        if self._doubt is None:
            self._doubt = now
        return now - self._doubt < DOUBT_S
