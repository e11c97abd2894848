"""Server connections with a time limit for the headers of each request."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler


class Connection(RequestHandler):
    """A connection that is closed when headers take longer than `header_seconds` (0: any time).

    The clock of the first request starts with the connection, that of a later one with its first byte.
    """

    def __init__(self, *args: Any, header_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_seconds = header_seconds
        self._clock: asyncio.TimerHandle | None = None
        self._answering = False
        self.began = 0.0
        """When the first byte of the current request arrived (for the first request: when the client connected); loop time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the clock."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts the clock for a request that begins."""
        if not self._answering and not self.began:
            self._wait()
        super().data_received(data)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answers what is not HTTP without a word in the log: anyone who can connect could fill it with tracebacks."""
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status, text=message)
        response.force_close()
        return response

    def request_begins(self) -> None:
        """The headers are complete."""
        self._answering = True

    def request_ends(self) -> None:
        """The response is complete; what arrives now is the next request."""
        self._answering = False
        self.began = 0.0

    def _wait(self) -> None:
        self.began = asyncio.get_running_loop().time()
        if self._clock is None and self._header_seconds > 0:
            self._look()

    def _look(self) -> None:
        """Closes the connection when the headers are late. One timer covers many short requests."""
        self._clock = None
        if self._answering or not self.began or self.transport is None:
            return
        loop = asyncio.get_running_loop()
        late = self.began + self._header_seconds
        if loop.time() < late:
            self._clock = loop.call_at(late, self._look)
        else:
            self.transport.close()

    def _stop(self) -> None:
        clock, self._clock = self._clock, None
        if clock is not None:
            clock.cancel()


class ConnectionServer(web.Server):
    """Makes such connections."""

    def __init__(self, handler: Any, *, header_seconds: float, handler_cancellation: bool, **kwargs: Any) -> None:
        super().__init__(handler, handler_cancellation=handler_cancellation)
        self._header_seconds = header_seconds
        self._options = kwargs

    def __call__(self) -> RequestHandler:
        """The protocol of a new connection."""
        return Connection(self, loop=asyncio.get_running_loop(), header_seconds=self._header_seconds, **self._options)
