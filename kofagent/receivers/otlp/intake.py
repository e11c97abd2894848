"""What both protocols share: checking a payload, handing it on, counting what was taken and what was not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from kofagent.component.log_limit import LogLimit
from kofagent.component.offering import Offer
from kofagent.component.protocols import ColumnsConsumer, Context
from kofagent.memory.pressure import PRESSURE
from kofagent.net.budget import COPIES, WAIT_SECONDS, ByteBudget, Overloaded, Reservation
from kofagent.net.peer import sender_address
from kofagent.net.turning_away import LOG_EVERY, Rejections
from kofagent.telemetry.batch import Batch, Metadata
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp, otlp_json
from kofagent.wire.otlp_check import NotText, TooMany, at_once, check_at_once, check_in_pieces
from kofagent.wire.otlp_json_stream import OBJECTS, Conversion, cost
from kofagent.wire.otlp_text import repair

IN_A_THREAD = 256 * 1024
"""Larger JSON is converted, larger payloads are repaired in a thread, so that other requests are not held up; one at a time."""

ITEM = {Signal.LOGS: 32, Signal.METRICS: 200, Signal.TRACES: 32}
"""Bytes that an item takes besides its own where a payload's outline is looked at; it may be the only point of its metric."""

MORE = 1 << 20
"""Room that a request has for its copies covers items as clients send them; for what takes so much more, there is a claim."""


class Intake:
    """Where payloads of one transport enter the pipelines."""

    def __init__(self, context: Context, outputs: Mapping[Signal, ColumnsConsumer], budget: ByteBudget, transport: str) -> None:
        self._context = context
        self.outputs = outputs
        self.budget = budget
        self._transport = transport
        self._offers = {signal: Offer(context, consumer, signal, transport) for signal, consumer in outputs.items()}
        self.rejections = Rejections(context, transport)
        self._log = LogLimit(LOG_EVERY)
        self._large = asyncio.Lock()
        self._checks = asyncio.Lock()

    async def take(
        self, signal: Signal, payload: bytes, metadata: Metadata | None, json: bool = False, held: Reservation | None = None
    ) -> None:
        """Returns when the items are owned downstream. Malformed, Refused.

        Overloaded where memory is short for large JSON, or for very many items; what JSON becomes is taken from `held`.
        """
        try:
            if json:
                if len(payload) > IN_A_THREAD or cost(payload) > OBJECTS:
                    payload = await _converted(signal, payload, held or self.budget.open())
                else:
                    payload = otlp_json.to_protobuf(signal.value, payload)
            try:
                items, payload = await self._checked(signal, payload)
            except NotText:
                items, payload = await self._checked(signal, await self._repaired(signal, payload))
        except ValueError as error:
            raise self.rejections.malformed(f"a {signal.value} payload", error) from None
        if not items:
            return
        batch = Batch(signal, payload, items, metadata)
        more = items * ITEM[signal] - COPIES * len(payload)
        if more < MORE:
            await self._offers[signal].answer(batch)
            return
        with PRESSURE.claim("decoders") as claim:
            if not claim.grow(0, more):
                raise Overloaded
            await self._offers[signal].answer(batch)

    async def _checked(self, signal: Signal, payload: bytes) -> tuple[int, bytes]:
        """The items of a payload, and it without what is not known. NotText, ValueError; Overloaded where it has too many."""
        if at_once(signal.value, payload):
            return check_at_once(signal.value, payload), otlp.normalise(payload)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._checks.acquire()
        except TimeoutError:
            raise Overloaded from None
        try:
            most = (max(PRESSURE.room, MORE) + COPIES * len(payload)) // ITEM[signal] + 1
            return await asyncio.to_thread(_check_in_pieces, signal.value, payload, most)
        except TooMany:
            PRESSURE.claim("decoders").refused()
            raise Overloaded from None
        finally:
            self._checks.release()

    async def _repaired(self, signal: Signal, payload: bytes) -> bytes:
        """The payload with its strings in UTF-8: those that are not would cost others their data, with whom it will be sent."""
        if len(payload) > IN_A_THREAD:
            async with self._large:
                payload, strings = await asyncio.to_thread(repair, signal.value, payload)
        else:
            payload, strings = repair(signal.value, payload)
        self._context.ledger.counter(
            "kofagent_receiver_repaired_strings",
            "Strings that were not UTF-8; their bad bytes became U+FFFD.",
            receiver=self._context.id,
            transport=self._transport,
        )(strings)
        if self._log.due("text"):
            self._context.log.warning(
                "%s: strings of %s that are not UTF-8, sent by %s, were repaired (further cases are only counted)",
                self._transport,
                signal.value,
                sender_address() or "an unknown client",
            )
        return payload


def _check_in_pieces(signal: str, payload: bytes, most: int) -> tuple[int, bytes]:
    return check_in_pieces(signal, payload, most), otlp.normalise(payload)


async def _converted(signal: Signal, payload: bytes, held: Reservation) -> bytes:
    """Large JSON as protobuf, which `held` has room for; Overloaded when there is none for it, or for its objects."""
    conversion = Conversion(signal.value, payload)
    made = 0
    async with held.turn():
        with PRESSURE.claim("decoders") as claim:
            steps = conversion.steps()
            while (need := await asyncio.to_thread(next, steps, None)) is not None:
                claim.close()
                if not claim.grow(0, need):
                    raise Overloaded
                await held.hold(conversion.made - made, COPIES)
                made = conversion.made
        await held.hold(conversion.made - made, COPIES)
        return conversion.payload()
