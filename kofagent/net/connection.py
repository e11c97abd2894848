"""Server connections with limits of time and size for the headers of each request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from kofagent.component.log_limit import LogLimit

SERVER = "kofagent"
"""The header `Server` of every answer: nobody needs to know the versions."""
HEADER_BYTES = 64 * 1024
"""Most bytes of the headers of one request; `max_line_size` and `max_field_size` bound each of them."""
ALL_HEADER_BYTES = 4 * 1024 * 1024
"""Most bytes of all headers that a server has not read to their end."""


class Connection(RequestHandler):
    """A connection that is closed when headers take longer than `header_seconds` (0: any time).

    The clock of the first request starts with the connection, that of a later one with its first byte.
    """

    def __init__(self, *args: Any, header_seconds: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_seconds = header_seconds
        self._clock: asyncio.TimerHandle | None = None
        self._answering = False
        self._headers = 0
        """Bytes of headers that are not complete."""
        self._server: ConnectionServer | None = None
        self._idle_since = asyncio.get_running_loop().time()
        self.gone: Callable[[], None] | None = None
        self.reading = False
        """The handler waits for more of the body."""
        self.damaged = False
        """The body is not what its headers say."""
        self.began = 0.0
        """When the first byte of the current request arrived (for the first request: when the client connected); loop time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the clock."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops the clock."""
        self._stop()
        self._headers_end()
        if self.gone is not None:
            self.gone()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts the clock for a request that begins."""
        if not self._answering and not self.began:
            self._wait()
        room = HEADER_BYTES - self._headers
        if len(data) > room and self._begins():
            # More than headers may have: the parser, which keeps what it is given, gets the rest only if they end here.
            self._take(data[:room])
            if self._begins():
                self._refuse_headers()
                return
            data = data[room:]
        self._take(data)

    def _begins(self) -> bool:
        """Whether the headers of a request are awaited, or have come in part.

        Between the end of the headers and the handler's first step there are turns of the loop in which a body may come already:
        aiohttp has taken the message out of its list then, and waits for no other.
        """
        if self._answering or self._messages or self._request_in_progress:
            return False
        return not self._request_count or (self._waiter is not None and not self._waiter.done())

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering or self._messages:
            if self._headers:
                self._headers_end()
            request = self._current_request
            if self.reading and self._messages and request is not None and not request.content.is_eof():
                # What follows a body that is not complete is the parser's complaint about it; the handler still waits for more.
                self.damaged = True
                request.content.feed_eof()
        elif self._begins():
            self._more_headers(len(data))

    def _more_headers(self, size: int) -> None:
        """Headers that do not end take memory: of each client little, of all together a bounded amount."""
        self._headers += size
        server = self._server
        assert server is not None
        server.header_bytes += size
        if self._headers > HEADER_BYTES or server.header_bytes > ALL_HEADER_BYTES:
            self._refuse_headers()

    def _refuse_headers(self) -> None:
        if self.transport is not None:
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.force_close()

    def _headers_end(self) -> None:
        if self._server is not None:
            self._server.header_bytes -= self._headers
        self._headers = 0

    def waiting_since(self) -> float | None:
        """As `accept.Client`."""
        if self._answering:
            return self.began if self.reading else None
        return self.began or self._idle_since

    def give_way(self) -> None:
        """Closes it at once, whatever the client is about to send."""
        self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answers what is not HTTP with nothing of what came: senders' credentials are for no log and for no page."""
        if status == HTTPStatus.BAD_REQUEST:
            if self._server is not None:
                self._server.refused()
            response: web.StreamResponse = web.Response(status=status, text="400 Bad Request: this is not HTTP\n")
            response.force_close()
        else:
            response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = SERVER
        return response

    def request_begins(self) -> None:
        """The headers are complete."""
        self._answering = True

    def request_ends(self) -> None:
        """The response is complete; what arrives now is the next request."""
        self._answering = False
        self.began = 0.0
        self._idle_since = asyncio.get_running_loop().time()

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

    def __init__(
        self, handler: Any, *, header_seconds: float, handler_cancellation: bool, name: str = "http", **kwargs: Any
    ) -> None:
        super().__init__(handler, handler_cancellation=handler_cancellation)
        self._name = name
        self._refused = 0
        self._log = LogLimit(60.0)
        self._header_seconds = header_seconds
        self._options = kwargs
        self.header_bytes = 0
        """Bytes of headers that are not complete, of all connections."""

    def refused(self) -> None:
        """Counts a request that is not HTTP, and says so once in a while."""
        self._refused += 1
        if self._log.due():
            logging.getLogger(f"kofagent.server.{self._name}").warning(
                "%d requests that are not HTTP were refused since the start (logged once a minute)", self._refused
            )

    def __call__(self) -> RequestHandler:
        """The protocol of a new connection."""
        connection = Connection(self, loop=asyncio.get_running_loop(), header_seconds=self._header_seconds, **self._options)
        connection._server = self
        return connection
