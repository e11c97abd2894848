"""Files that were rotated away from their paths between two polls: they are found again, in the order they were written."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kofagent.component.protocols import Context
from kofagent.receivers.filelog import decide
from kofagent.receivers.filelog.decide import Search
from kofagent.receivers.filelog.files import Files
from kofagent.receivers.filelog.find import key_of
from kofagent.receivers.filelog.identity import Identity
from kofagent.receivers.filelog.recovery import Recovery
from kofagent.receivers.filelog.rotated import Folders
from kofagent.receivers.filelog.tail import Tail


class Unseen:
    """Takes up what `Recovery` finds, and counts what is nowhere."""

    def __init__(self, files: Files, recovery: Recovery, context: Context) -> None:
        self._files = files
        self._recovery = recovery
        self._context = context
        self._unsettled: list[Identity] = []

    @property
    def unsettled(self) -> bool:
        """True when there is something to read that could not be opened yet: too many files are open."""
        return bool(self._unsettled)

    def at_start(self, newest: int, from_beginning: bool, now: float) -> None:
        """Files an earlier run did not finish, and files that came and went at their paths since."""
        files = self._files
        present = {tail.path: tail for tail in files.tails.values()}
        resumed = {path: tail.resumed for path, tail in present.items()}
        folders = Folders()
        for search in decide.searches_at_start(reversed(files.closed()), resumed, newest, from_beginning, sys.maxsize):
            chain, missing = self.take_up(search, folders, now)
            here = present.get(search.path)
            files.in_order(chain if here is None else [*chain, here])
            for identity in missing:
                files.lose(identity)

    def between_polls(self, gone: Sequence[Tail], fresh: Sequence[str], looked: int, now: float) -> None:
        """Files that are not at their paths any more, and new paths: others may have come and gone there since `looked` (ns)."""
        files, folders = self._files, Folders()
        unsettled, self._unsettled = self._unsettled, []
        for identity in reversed(unsettled):
            _, missing = self.take_up(Search(identity.path, [identity], [], None), folders, now)
            for lost in missing:
                files.lose(lost)
        for tail in gone:
            if tail.twin is not None or key_of(tail.path) == tail.key:
                continue  # a copy; or left out by its age or the order, and still there
            parked = [tail.identity()] if tail.fd < 0 and tail.unread else []
            search = Search(tail.path, parked, files.closed_at(tail.path), tail.mtime)
            chain, missing = self.take_up(search, folders, now)
            here = [t for t in files.tails.values() if t.path == tail.path and t.lost_at is None]
            files.in_order([tail, *chain, *here])
            for identity in missing:
                files.lose(identity)
        present = {t.path: t for t in files.tails.values()} if fresh else {}
        for path in set(fresh).difference(tail.path for tail in gone):
            new = present.get(path)
            if new is not None and not new.resumed:
                chain, _ = self.take_up(Search(path, [], files.closed_at(path), looked), folders, now)
                files.in_order([*chain, new])

    def take_up(self, search: Search, folders: Folders, now: float) -> tuple[list[Tail], list[Identity]]:
        """Takes up what there is still to read of a path, oldest first. Also returns what is nowhere to be found."""
        files = self._files
        known = list(search.known)
        if search.newer_than is not None:
            known += [t.identity() for t in files.tails.values() if t.path == search.path and t.twin is None]
        found = self._recovery.search(search.path, search.wanted, known, files.tails, search.newer_than, folders)
        out = []
        for tail, identity in found.tails:
            if identity is None:
                tail.start_at(0)
                files.keep(tail)
            else:
                files.resume(tail, identity)
            if not files.make_room():
                self._unsettled.append(identity or tail.identity())
                tail.close()
                continue
            tail.leave(now)
            files.add(tail)
            out.append(tail)
            self._context.log.info("%s was rotated to %s unseen; it is read to its end", search.path, tail.rotated)
        return out, found.missing
