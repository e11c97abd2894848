"""The metadata servers of clouds and the Docker daemon: plain HTTP to addresses of the machine, no proxy, no redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from yarl import URL

from kofagent.net.body import read_start
from kofagent.net.transport import FAILURES, Limits, Route, Transport, failure
from kofagent.wire.foreign_json import read_json

BODY_LIMIT = 1 << 20
"""Bytes of an answer that are read."""
_DIRECT = Route(lambda: True, lambda target: None)


class Unavailable(OSError):
    """A server cannot be reached, or does not say what it should; in words."""


class Said(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body without white space around it."""
        return self.body.decode("utf-8", "replace").strip()

    def json(self, whose: str) -> dict[str, Any]:
        """The body as an object; Unavailable when it is none."""
        try:
            found = read_json(self.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unavailable(f"{whose} answered something that is not a JSON object")
        return found


class Server:
    """One server; use it as an async context manager. `unix`: the path of its socket, in place of the host of `base`."""

    def __init__(self, name: str, base: str, unix: str = "") -> None:
        self.name = name
        self._base = URL(base.rstrip("/"), encoded=True)
        self._transport = Transport(Limits(keep_alive=False), unix=unix)

    async def __aenter__(self) -> Server:
        await self._transport.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._transport.stop()

    async def ask(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Said:
        """The answer, whatever its status. Unavailable when there is none; there is no limit of time but the caller's."""
        target = URL(f"{self._base}{path}", encoded=True)
        try:
            async with await self._transport.send(method, target, _DIRECT, headers or {}, follow=False) as response:
                return Said(response.status, response.headers, await read_start(response, BODY_LIMIT))
        except FAILURES as error:
            raise Unavailable(f"{self.name}: {failure(error).sentence}") from None

    async def value(self, path: str, headers: Mapping[str, str] | None = None) -> Said:
        """An answer with status 200; else Unavailable."""
        said = await self.ask(path, headers)
        if said.status != 200:
            raise Unavailable(f"{self.name} answered {said.status} to {path.partition('?')[0]}")
        return said


async def attempts(most: int, longest_pause: float, ask: Any) -> Any:
    """What `ask()` returns, tried up to `most` times with doubling pauses between (seconds); the last Unavailable."""
    pause = 0.5
    for _ in range(most - 1):
        try:
            return await ask()
        except Unavailable:
            await asyncio.sleep(min(pause, longest_pause))
            pause *= 2
    return await ask()
