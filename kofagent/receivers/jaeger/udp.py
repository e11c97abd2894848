"""Datagrams of Jaeger's clients: decoded as they come, handed on in order, dropped and counted when too many wait."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable

from kofagent.component.offering import Offer
from kofagent.component.protocols import Context
from kofagent.net.budget import ByteBudget, Overloaded, Reservation
from kofagent.net.listen import listen_address, listen_datagrams
from kofagent.net.turning_away import Rejections
from kofagent.receivers.jaeger.config import UdpProtocol
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform.spans import Spans

_STOP_SECONDS = 3.0
"""How long datagrams that came may take when the receiver stops."""
_TURN_SECONDS = 0.02
"""How long datagrams are read and decoded before others of the event loop have their turn; a large one takes some 20 ms."""


class UdpEndpoint:
    """One port. `decode` makes spans of a datagram, or raises ValueError."""

    def __init__(
        self,
        settings: UdpProtocol,
        context: Context,
        name: str,
        decode: Callable[[bytes], Spans],
        offer: Offer,
        rejections: Rejections,
        budget: ByteBudget,
    ) -> None:
        self._settings = settings
        self._context = context
        self._option = f"protocols.{name}.endpoint"
        self._decode = decode
        self._offer = offer
        self._rejections = rejections
        self._budget = budget
        self._socket: socket.socket | None = None
        self._waiting: deque[tuple[Batch, Reservation]] = deque()
        self._came = asyncio.Event()
        self._empty = asyncio.Event()
        self._handing_on: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Binds; StartError."""
        host, port = listen_address(self._context.id, self._settings.endpoint, option=self._option)
        bound = listen_datagrams(self._context.id, host, port, self._option, self._settings.socket_buffer_size)
        self._socket = bound
        self.port = bound.getsockname()[1]
        self._handing_on = asyncio.create_task(self._hand_on(), name=f"{self._context.id} {self._option}")
        asyncio.get_running_loop().add_reader(bound.fileno(), self._readable)

    async def stop(self) -> None:
        """Reads nothing new; what came is handed on if the pipeline takes it, else dropped and counted."""
        bound, self._socket = self._socket, None
        if bound is not None:
            asyncio.get_running_loop().remove_reader(bound.fileno())
            bound.close()
        task, self._handing_on = self._handing_on, None
        if task is None:
            return
        if self._waiting:
            self._empty.clear()
            emptied = asyncio.ensure_future(self._empty.wait())
            await asyncio.wait({task, emptied}, timeout=_STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            emptied.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while self._waiting:
            batch, held = self._waiting.popleft()
            self._offer.give_up(batch, "shutdown")
            held.close()

    def _readable(self) -> None:
        bound, most = self._socket, self._settings.max_packet_size
        until = time.monotonic() + _TURN_SECONDS
        while bound is not None and time.monotonic() < until:
            try:
                data, _, flags, _ = bound.recvmsg(most)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # what a peer did, such as a port that is not reachable
                self._context.log.debug("a datagram could not be read: %s", error)
                continue
            if flags & socket.MSG_TRUNC:
                self._rejections.reject("too large", f"a datagram of more than {most} bytes; see max_packet_size")
                continue
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            spans = self._decode(data)
        except ValueError as error:
            self._rejections.reject("malformed", f"a datagram that cannot be decoded: {error}")
            return
        if not spans.count:
            return
        held = self._budget.open()
        batch = Batch(Signal.TRACES, spans.payload(), spans.count)
        if len(self._waiting) >= self._settings.queue_size:
            self._offer.give_up(batch, "backlog", f"{self._settings.queue_size} datagrams wait")
            return
        try:
            held.take(len(batch.payload))
        except Overloaded:
            held.close()
            self._offer.give_up(batch, "overloaded", "too much data in flight")
            return
        self._waiting.append((batch, held))
        self._came.set()

    async def _hand_on(self) -> None:
        while True:
            await self._came.wait()
            while self._waiting:
                batch, held = self._waiting[0]
                await self._offer.until_taken(batch)
                self._waiting.popleft()
                held.close()
            self._came.clear()
            self._empty.set()
