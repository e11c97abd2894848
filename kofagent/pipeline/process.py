"""What the collectors of one process have in common: memory, environment, own telemetry, and what components of several share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple, TypeVar

from kofagent.component.protocols import Context, StartError
from kofagent.config.model import MemoryConfig, TelemetryConfig
from kofagent.memory import usage as memory
from kofagent.memory.budget import Budget
from kofagent.pipeline.guard import Guard
from kofagent.pipeline.telemetry import OwnTelemetry

R = TypeVar("R")

BUDGET_SHARE = 0.25
BUDGET_MAX = 256 * 1024 * 1024
"""Data waiting in memory may take a quarter of the available memory, at most this many bytes."""

log = logging.getLogger("kofagent.run")


class Commons:
    """Objects that components of several collectors share. One is there as long as a collector that asked for it runs on."""

    def __init__(self) -> None:
        self._objects: dict[Hashable, Any] = {}
        self._users: dict[Hashable, set[int]] = {}

    def get(self, user: object, key: Hashable, make: Callable[[], R]) -> R:
        """What `make` returned when `key` was first asked for."""
        if key not in self._objects:
            self._objects[key] = make()
        self._users.setdefault(key, set()).add(id(user))
        found: R = self._objects[key]
        return found

    def leave(self, user: object) -> None:
        """A collector has stopped, or is about to start anew: what only it has asked for is forgotten."""
        for key, users in list(self._users.items()):
            users.discard(id(user))
            if not users:
                del self._users[key], self._objects[key]


class Variables:
    """Environment variables of the collectors that run. Where two differ in one, the one that started last has it."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        """`environ` is where they are set, since libraries and plugins read them there."""
        self._environ: MutableMapping[str, str] = {} if environ is None else environ
        self._before: dict[str, str | None] = {}
        self._of: dict[int, Mapping[str, str]] = {}

    def put(self, user: object, variables: Mapping[str, str]) -> None:
        """Sets those of a collector in place of its earlier ones; what nobody sets any more gets its old value again."""
        self._of.pop(id(user), None)
        if variables:
            self._of[id(user)] = variables
        wanted = {name: value for each in self._of.values() for name, value in each.items()}
        for name in [name for name in self._before if name not in wanted]:
            value = self._before.pop(name)
            if value is None:
                self._environ.pop(name, None)
            else:
                self._environ[name] = value
        for name, value in wanted.items():
            self._before.setdefault(name, self._environ.get(name))
            self._environ[name] = value


class Member(NamedTuple):
    """One collector, as the process sees it when it starts."""

    telemetry: TelemetryConfig
    memory: MemoryConfig
    context: Context


class Process:
    """The budget of data in memory, from the beginning; own telemetry and the guard of memory, between `start` and `stop`."""

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        self.commons = Commons()
        self.variables = Variables(environ)
        self.budget = Budget("in_flight", min(BUDGET_MAX, int(memory.total() * BUDGET_SHARE)))
        self.telemetry: OwnTelemetry | None = None
        self._guard: Guard | None = None

    async def start(self, members: Sequence[Member]) -> tuple[Context, StartError] | None:
        """Begins to write the log, to serve own metrics (which say that they are not ready) and to measure memory.

        Returns what keeps it from that, with the collector whose options say so; the rest runs all the same, until `stop`.
        """
        first, *others = members
        own = self.telemetry = OwnTelemetry(first.telemetry, first.context, [(m.telemetry, m.context) for m in others])
        own.ready = False
        failed = None
        try:
            await own.start()
        except StartError as error:
            failed = own.starting, error
        self._guard = Guard(_strictest([member.memory for member in members]))
        self._guard.start()
        return failed

    def ready(self) -> None:
        """All pipelines run: own metrics are answered with."""
        if self.telemetry is not None:
            self.telemetry.ready = True

    async def stop(self) -> None:
        """Ends own telemetry last but the guard."""
        own, self.telemetry = self.telemetry, None
        if own is not None:
            if own.ready:
                log.info("stopped")  # the last line that there is an output for
            await own.stop()
        guard, self._guard = self._guard, None
        if guard is not None:
            await guard.stop()


def _strictest(options: Sequence[MemoryConfig]) -> MemoryConfig:
    """One for all: the lowest limit that is set; no guard where one of them leaves that to others."""
    limits = [each.limit for each in options if each.limit]
    return MemoryConfig(guard=all(each.guard for each in options), limit=min(limits, default=0))
