"""`otlp`: sends telemetry with OTLP over gRPC (OTLP specification 1.x, "OTLP/gRPC"), in the bytes that arrived.

CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS are retried, RESOURCE_EXHAUSTED only with
RetryInfo, none of them before the time in RetryInfo. A message that is too large for the server (RESOURCE_EXHAUSTED or OUT_OF_RANGE
saying so, or a proxy's HTTP status 413) is sent again in halves, and later ones are made as small; an item too large by itself is
dropped. Any other code is final, unless `retry_on_failure.retryable_statuses` has it: the data is dropped, counted with the reason
`grpc <code>`; of a request that is answered with INVALID_ARGUMENT only the items for which it is. Items that a success rejects
(partial success) are dropped with the reason `partial success`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import grpc
import grpc.aio
from pydantic import Field, field_validator

from kofagent.component.protocols import Context, Exporter
from kofagent.component.rejections import Rejections, shown
from kofagent.component.requests import Drop, Rejected, TooLarge
from kofagent.component.sending import Sending
from kofagent.component.size_limit import SizeLimit
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.config.base import Duration
from kofagent.config.blocks import GrpcClientBlock, QueueBlock, RetryBlock
from kofagent.net.grpc_client import GrpcClient, target
from kofagent.net.os_errors import os_reason
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire.status import decode_partial_success, decode_status

_METHODS = {
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
_RETRYABLE = frozenset(("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"))
_SIZE = re.compile(r"larger than max|exceeds (the )?max|message (length )?too large|\b413\b", re.IGNORECASE)
"""How servers say that a message is too large: grpc-go and the C core (ours, too: "larger than max"), grpc-java and .NET ("exceeds
maximum"), tonic ("message length too large"), and a client of a proxy that speaks HTTP ("status: 413")."""
_SIZE_CODES = frozenset(("RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "UNKNOWN"))


class Config(GrpcClientBlock):
    """Options of the `otlp` exporter."""

    endpoint: str = Field(description="host:port, or with scheme http:// (plain text), https://, dns:/// or unix://.")
    timeout: Duration = Field(5.0, description="Time for one call; 0: none.")
    sending_queue: QueueBlock = Field(QueueBlock(), description="Queue of batches to send.")
    retry_on_failure: RetryBlock = Field(RetryBlock(), description="Retries.")

    @field_validator("endpoint")
    @classmethod
    def _usable(cls, endpoint: str) -> str:
        target(endpoint)
        return endpoint


class OtlpExporter(Exporter[Config]):
    """One channel for all signals."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._client = GrpcClient(config, context)
        self._rejections = Rejections(context)
        self._limit = SizeLimit(advice="set sending_queue.batch.max_size with sizer: bytes to what it takes")
        self._sending = Sending(
            context,
            self._requests,
            self._send,
            queue=config.sending_queue,
            retry=config.retry_on_failure,
            limit=self._limit,
            exact=True,
        )

    async def start(self) -> None:
        """Reads certificates, finds the authenticator, opens the queue; StartError."""
        await self._client.start()
        await self._sending.start()

    async def stop(self) -> None:
        """Sends what waits, closes the connections."""
        await self._sending.stop()
        await self._client.stop()

    async def consume(self, batch: Batch) -> None:
        """As `Consumer.consume`."""
        await self._sending.consume(batch)

    def _requests(self, batch: Batch, drop: Drop) -> Iterable[OtlpRequest]:
        return otlp_requests(batch, self._limit.bytes)

    async def _send(self, request: OtlpRequest) -> Rejected | None:
        batch = request.batch
        try:
            answer = await self._client.call(_METHODS[batch.signal], batch.payload, batch.metadata, self.config.timeout)
        except grpc.aio.AioRpcError as error:
            raise _refused(error) from None
        except OSError as error:
            raise Refused("connection", os_reason(error)) from None
        if not answer:
            return None
        try:
            rejected, message = decode_partial_success(answer)
        except ValueError:
            return None  # the status said that the data is taken
        return self._rejections.of(batch, rejected, message)


def _refused(error: grpc.aio.AioRpcError) -> Refused:
    code = error.code().name
    retry_after = None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                retry_after = decode_status(value)[2]
            except ValueError:
                pass
    said = shown(error.details() or "")
    if code in _SIZE_CODES and retry_after is None and _SIZE.search(said):
        return TooLarge(f"grpc {code}", said)
    permanent = code not in _RETRYABLE and not (code == "RESOURCE_EXHAUSTED" and retry_after is not None)
    return Refused(f"grpc {code}", said, permanent=permanent, retry_after=retry_after)


COMPONENT = OtlpExporter
