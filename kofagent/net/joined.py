"""An HTTP server that equal components of several collectors of one process have in common."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from aiohttp import web

from kofagent.component.protocols import Host
from kofagent.net.server import Handler, HttpServer
from kofagent.telemetry.batch import Metadata

M = TypeVar("M")


class JoinedServer(Generic[M]):
    """Bound by the first that joins, closed by the last that leaves; any of the members answers, for all of them."""

    def __init__(self, make: Callable[[Handler], HttpServer], handler_of: Callable[[M], Handler]) -> None:
        self.server = make(self._answer)
        self._handler_of = handler_of
        self._members: dict[str, M] = {}

    def members(self) -> dict[str, M]:
        """Those that have joined, by the names of their collectors; the name of one alone is empty."""
        return dict(self._members)

    async def join(self, collector: str, member: M) -> None:
        """StartError when it cannot be bound."""
        if not self._members:
            await self.server.start()
        self._members[collector] = member

    async def leave(self, member: M) -> None:
        """What never joined may leave, too."""
        for collector, other in self.members().items():
            if other is member:
                del self._members[collector]
                if not self._members:
                    await self.server.stop()

    async def _answer(self, request: web.BaseRequest, metadata: Metadata | None) -> web.StreamResponse:
        member = next(iter(self._members.values()), None)
        if member is None:
            return web.Response(status=503)
        return await self._handler_of(member)(request, metadata)


def joined(host: Host, key: Hashable, make: Callable[[Handler], HttpServer], handler_of: Callable[[M], Handler]) -> JoinedServer[M]:
    """The server for a member of a collector. Within one collector nothing is joined: a second one on a port is an error."""
    if not host.collector:
        return JoinedServer(make, handler_of)
    found = host.common(("server", key), lambda: JoinedServer(make, handler_of))
    return JoinedServer(make, handler_of) if host.collector in found.members() else found
