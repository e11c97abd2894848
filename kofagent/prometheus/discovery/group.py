"""What every discovery mechanism delivers, and the protocol a mechanism implements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class Group:
    """Targets that were found together. `source` is unique within a mechanism; no targets: the group no longer exists.

    Each target is a dict of labels that includes `__address__`; `labels` are those that all targets share.
    """

    __slots__ = ("labels", "source", "targets")

    def __init__(self, source: str, targets: Sequence[Mapping[str, str]], labels: Mapping[str, str] | None = None) -> None:
        self.source = source
        self.targets = targets
        self.labels = labels or {}


Update = Callable[[Sequence[Group]], None]
"""Takes the groups that changed; groups not named stay as they were."""


class Discovery(Protocol):
    """A mechanism. One instance per entry of `*_sd_configs`."""

    async def run(self, update: Update) -> None:
        """Finds targets until it is cancelled and calls `update` with what changed.

        Never raises for temporary errors (an unreachable server, a malformed file): it logs once, keeps the last result and
        tries again.
        """
        ...
