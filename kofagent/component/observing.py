"""Endpoints that come and go while the agent runs, and the extensions that observe them: pods, their containers, ports of a host.

An extension that finds endpoints (`k8s_observer`, `host_observer`) implements `Observer`; who wants them (`receiver_creator`) gets
it with `host.extension(id, Observer)` and calls `observe`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

TYPES = ("pod", "port", "pod.container", "hostport", "container", "k8s.service", "k8s.ingress", "k8s.node", "kafka.topics")
"""The types of endpoints that upstream's observers have."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint. Two are equal when nothing differs that an expression can see."""

    id: str
    """The same for as long as the endpoint is there; begins with the name of its observer."""
    type: str
    target: str
    """Host, host:port or URL to reach it under; may be empty."""
    details: Mapping[str, Any]
    """What its type has for expressions, by upstream's names."""
    fresh: bool = field(default=False, compare=False)
    """It came after the observer had seen all that there was: what it has written, it wrote since."""
    since: float = field(default=0.0, compare=False)
    """When it began, Unix time in seconds; 0.0: not known."""
    over: bool = False
    """What ran there has ended. What it left on the disk can be read, nothing can be asked of it."""

    def env(self) -> dict[str, Any]:
        """The names that expressions have: details, and endpoint, type, id, host and port."""
        names = {**self.details, "endpoint": self.target, "type": self.type, "id": self.id}
        host, port = split_target(self.target)
        if port:
            names.setdefault("port", port)
        names.setdefault("host", host)
        return names


class Wanted(NamedTuple):
    """What somebody wants to be told of."""

    types: frozenset[str]
    files: bool = False
    """Only what is on the disk of this node is read of them: those of other nodes are left out, and those that can only be read,
    since they have ended or were never seen to run, are told as well."""


Told = Callable[[str, Endpoint | None], None]
"""Gets the id of an endpoint, and what is true of it now; None when it is gone. Called in the event loop; must be quick."""


class Observation(Protocol):
    """What `observe` began."""

    synced: asyncio.Event
    """Set when everything that was there at the start has been told."""

    async def stop(self) -> None:
        """Nothing is told from now on."""
        ...


@runtime_checkable
class Observer(Protocol):
    """An extension that can be named under `watch_observers` of a receiver."""

    def observe(self, wanted: Wanted, told: Told) -> Observation:
        """Tells the endpoints that are there, now or soon, and from then on each change. The extension must have been started."""
        ...


class Telling:
    """Tells changes: what its owner is made of now is compared with what was told of it before."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._of: dict[str, dict[str, Endpoint]] = {}

    def of(self, owner: str) -> list[Endpoint]:
        """What was told of it."""
        return list(self._of.get(owner, {}).values())

    def hand_over(self, owner: str, heir: str) -> None:
        """What was told of `owner` was told of `heir`."""
        if owner in self._of:
            self._of[heir] = self._of.pop(owner)

    def set(self, owner: str, endpoints: Iterable[Endpoint]) -> None:
        """These are all endpoints of `owner` (a pod, a service). One that was told before stays as fresh as it was."""
        before = self._of.pop(owner, {})
        now = {each.id: each for each in endpoints}
        if now:
            self._of[owner] = now
        for id in before:
            if id not in now:
                self._told(id, None)
        for id, endpoint in now.items():
            old = before.get(id)
            if old is None:
                self._told(id, endpoint)
                continue
            if old.fresh != endpoint.fresh:
                endpoint = now[id] = Endpoint(
                    id, endpoint.type, endpoint.target, endpoint.details, old.fresh, endpoint.since, endpoint.over
                )
            if old != endpoint:
                self._told(id, endpoint)


def join_target(host: str, port: int | str) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_target(target: str) -> tuple[str, str]:
    """Host and port of `host:port`; the port is empty where there is none."""
    host, colon, port = target.rpartition(":")
    if not colon or not port or "/" in port or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        return target, ""
    return host.removeprefix("[").removesuffix("]"), port
