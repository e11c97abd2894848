"""What servers that take data answer when they do not take it: one status, one counted reason and one line in the log per kind.

`Rejections` counts requests that never became items. `http_answer` says what a client over HTTP is told, `grpc_door.GrpcDoor` tells
one over gRPC; whoever serves a protocol catches `TURNED_AWAY` around reading a request and offering its items.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from kofagent.component.log_limit import LogLimit
from kofagent.component.protocols import Context
from kofagent.net.budget import Overloaded
from kofagent.net.compression import CorruptBody, TooLarge, UnknownEncoding
from kofagent.telemetry.reasons import checked
from kofagent.telemetry.refused import Refused

LOG_EVERY = 300.0
RETRY_SECONDS = 1.0
"""When a client is asked to try again, where nobody knows better."""


class Malformed(Exception):
    """The payload cannot be decoded; the message says why, without data. It is counted by who decoded it."""


TURNED_AWAY = (Refused, Malformed, TooLarge, Overloaded, UnknownEncoding, CorruptBody, TimeoutError)
"""What reading a request over HTTP and offering its items raises; over gRPC also BadMessage and Stalled."""


class Rejections:
    """Requests of one transport that were refused before their items were known."""

    def __init__(self, context: Context, transport: str) -> None:
        self._context = context
        self._transport = transport
        self._log = LogLimit(LOG_EVERY)

    def reject(self, reason: str, sentence: str) -> None:
        """Counts one, and logs the first of its kind in five minutes."""
        self._context.ledger.counter(
            "kofagent_receiver_rejected_requests",
            "Requests that were refused before their items were known, by reason.",
            receiver=self._context.id,
            transport=self._transport,
            reason=checked(reason),
        )(1)
        if self._log.due(reason):
            self._context.log.warning("%s: rejected %s (further cases are only counted)", self._transport, sentence)

    def malformed(self, what: str, error: Exception) -> Malformed:
        """Counts a payload that cannot be decoded; to be raised."""
        self.reject("malformed", f"{what} that cannot be decoded: {error}")
        return Malformed(str(error))


class HttpAnswer(NamedTuple):
    """What an HTTP client is told. `retry_after`: seconds, for one that should try again."""

    status: int
    message: str
    retry_after: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After` in whole seconds, where there is one."""
        return {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}


def http_answer(error: Exception, rejections: Rejections, limit: int) -> HttpAnswer:
    """The answer to a request that failed with one of `TURNED_AWAY`; `limit`: bytes that a body may have."""
    match error:
        case Refused(for_clients=True):
            return HttpAnswer(400, error.reason)
        case Refused():
            return HttpAnswer(503, error.reason, error.retry_after or RETRY_SECONDS)
        case Malformed():
            return HttpAnswer(400, f"cannot decode the request: {error}")
        case TooLarge():
            rejections.reject("too large", f"a body of more than {limit} bytes")
            return HttpAnswer(413, f"the body has more than {limit} bytes")
        case Overloaded():
            rejections.reject("overloaded", "a request because too many are in progress")
            return HttpAnswer(503, "too much data in flight", RETRY_SECONDS)
        case UnknownEncoding():
            rejections.reject("content encoding", "a request with an unknown Content-Encoding")
            return HttpAnswer(400, f"unsupported Content-Encoding {str(error)[:40]!r}")
        case CorruptBody():
            rejections.reject("malformed", f"a body that cannot be decompressed: {error}")
            return HttpAnswer(400, f"cannot decompress the body: {error}")
        case TimeoutError():
            rejections.reject("stalled", "a request that stopped coming")
            return HttpAnswer(408, "the request took too long")
    raise error
