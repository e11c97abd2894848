"""What both protocols share: checking a payload, handing it on, counting what was taken and what was not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from kofagent.component.protocols import Consumer, Context
from kofagent.net.server import Room
from kofagent.telemetry.batch import Batch, Metadata
from kofagent.telemetry.ledger import ReceiverAccount
from kofagent.telemetry.reasons import checked
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp, otlp_json

LOG_EVERY = 300.0
IN_A_THREAD = 256 * 1024
"""JSON of more bytes is converted beside the event loop, which other requests need."""


class Malformed(Exception):
    """The payload cannot be decoded; the message says why, without data."""


class Intake:
    """The door into the pipelines for one transport."""

    def __init__(self, context: Context, outputs: Mapping[Signal, Consumer], room: Room, transport: str) -> None:
        self._context = context
        self.outputs = outputs
        self.room = room
        self._transport = transport
        self._accounts: dict[Signal, ReceiverAccount] = {
            signal: context.ledger.receiver(context.id, signal, transport) for signal in outputs
        }
        self._logged: dict[str, float] = {}

    async def take(self, signal: Signal, payload: bytes, metadata: Metadata | None, json: bool = False) -> None:
        """Returns when somebody owns the items. Malformed, Refused."""
        try:
            if json:
                if len(payload) > IN_A_THREAD:
                    payload = await asyncio.to_thread(otlp_json.to_protobuf, signal.value, payload)
                else:
                    payload = otlp_json.to_protobuf(signal.value, payload)
            items = otlp.check(signal.value, payload)
        except ValueError as error:
            self.reject("malformed", f"a {signal.value} payload that cannot be decoded: {error}")
            raise Malformed(str(error)) from None
        if not items:
            return
        account = self._accounts[signal]
        try:
            await self.outputs[signal].consume(Batch(signal, otlp.normalise(payload), items, metadata))
        except Refused:
            account.refused(items)
            raise
        except Exception:
            # a defect of ours: the sender is told to keep the data, the traceback goes to the log
            account.refused(items)
            self._context.log.exception("cannot pass on a request")
            raise Refused("internal error", "see the log of the agent") from None
        account.accepted(items)

    def reject(self, reason: str, sentence: str) -> None:
        """Counts a request that never became items, and logs the first of its kind in five minutes."""
        self._context.ledger.counter(
            "kofagent_receiver_rejected_requests",
            "Requests that were refused before their items were known, by reason.",
            receiver=self._context.id,
            transport=self._transport,
            reason=checked(reason),
        )(1)
        now = time.monotonic()
        if now - self._logged.get(reason, -LOG_EVERY) >= LOG_EVERY:
            self._logged[reason] = now
            self._context.log.warning("%s: refused %s (further ones are only counted)", self._transport, sentence)
