"""Accepts connections from a listening socket, up to a limit; at the limit the longest idle one is closed for a new one."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from kofagent.component.log_limit import LogLimit

HANDSHAKE_SECONDS = 10.0
"""How long a TLS handshake may take."""
LOG_EVERY = 60.0
_AT_ONCE = 64
_PAUSE = 0.2
"""Seconds without accepting when the system has no room for another connection."""
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_GROUP = 16


class Client(Protocol):
    """The protocol of one connection, as the acceptor sees it."""

    gone: Callable[[], None] | None
    """To be called once, when the connection is lost."""

    def waiting_since(self) -> float | None:
        """Since when (loop time) the client has been idle, or has kept a request unfinished; None: it waits for us."""
        ...

    def give_way(self) -> None:
        """Closes the connection for the sake of a new one."""
        ...


def connection_limit(option: int) -> int:
    """`max_connections`, but at most a quarter of the descriptors that the process may have; files and backends need theirs."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = max(16, soft // 4) if soft != resource.RLIM_INFINITY else 1 << 20
    return min(option, room) if option > 0 else room


class Acceptor:
    """Accepts from `start` to `stop`; each connection gets a protocol made by `factory`.

    At `limit` connections the one that has kept us waiting longest is closed for a new one. When all of them wait for us, the
    new one is closed. Neither costs more than a line in the log per minute.
    """

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        factory: Callable[[], asyncio.Protocol],
        *,
        limit: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = listener
        self._factory = factory
        self._limit = limit
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._open: dict[Client, float] = {}
        """Connections and when they were accepted."""
        self._handshakes: dict[Client, asyncio.Task[None]] = {}
        self._resume: asyncio.TimerHandle | None = None
        self._logger = logging.getLogger(f"kofagent.server.{name}")
        self._log = LogLimit(LOG_EVERY)
        self.evicted = 0
        """Connections that were closed for new ones, or not taken at all."""

    @property
    def connections(self) -> int:
        """How many are open, those in a handshake included."""
        return len(self._open)

    def start(self) -> None:
        """Begins to accept; the listener belongs to this object from now on."""
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._ready)

    def stop(self) -> None:
        """Closes the listener; connections go on, handshakes do not."""
        if self._resume is not None:
            self._resume.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for task in list(self._handshakes.values()):
            task.cancel()

    def _ready(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                taken, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause(error)
                return
            if len(self._open) >= self._limit and not self._full():
                taken.close()
                continue
            self._begin(taken)

    def _begin(self, taken: socket.socket) -> None:
        taken.setblocking(False)
        client = self._factory()
        self._open[client] = self._loop.time()  # type: ignore[index]
        client.gone = lambda: self._left(client)  # type: ignore[attr-defined,arg-type]
        task = self._loop.create_task(self._connect(client, taken))
        self._handshakes[client] = task  # type: ignore[index]

    async def _connect(self, client: asyncio.Protocol, taken: socket.socket) -> None:
        seconds = {"ssl_handshake_timeout": HANDSHAKE_SECONDS} if self._tls is not None else {}
        try:
            await self._loop.connect_accepted_socket(lambda: client, taken, ssl=self._tls, **seconds)
        except (OSError, ssl.SSLError, TimeoutError, asyncio.CancelledError):
            # no connection, so nobody will say that it was lost; whoever can connect could fill the log with this
            self._left(client)  # type: ignore[arg-type]
            taken.close()
        finally:
            self._handshakes.pop(client, None)  # type: ignore[call-overload]

    def _left(self, client: Client) -> None:
        self._open.pop(client, None)

    def _full(self) -> bool:
        made = self._make_room(1)
        if self._log.due("full"):
            what = "the longest idle ones are closed for new ones" if made else "new ones are closed"
            self._logger.warning("%d connections are open, the most there may be (max_connections); %s", self._limit, what)
        return made

    def _make_room(self, wanted: int) -> bool:
        """Closes up to `wanted` of those that have kept us waiting longest."""
        waiting = []
        for client, since in self._open.items():
            began = since if client in self._handshakes else client.waiting_since()
            if began is not None:
                waiting.append((began, id(client), client))
        waiting.sort(key=lambda entry: entry[:2])
        for _, _, client in waiting[:wanted]:
            self._open.pop(client, None)
            task = self._handshakes.get(client)
            if task is not None:
                task.cancel()
            else:
                client.give_way()
        self.evicted += max(1, min(wanted, len(waiting)))
        return bool(waiting)

    def _pause(self, error: OSError) -> None:
        """Descriptors or memory of the system ran out: frees some, and looks again soon."""
        if self._log.due("no room"):
            self._logger.warning(
                "cannot accept connections: %s; raise the limit of open files (ulimit -n) or lower max_connections", error.strerror
            )
        self._make_room(_GROUP)
        self._loop.remove_reader(self._listener.fileno())
        self._resume = self._loop.call_later(_PAUSE, self.start)
