"""`otlp`: OTLP over gRPC (OTLP specification 1.x, "OTLP/gRPC"), payloads sent as the bytes they are.

CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS are tried again, RESOURCE_EXHAUSTED only with
RetryInfo, none before the time RetryInfo gives. Any other code is final: the data is dropped, counted with the reason
`grpc <code>`. Items that a success rejects (partial success) are dropped with the reason `partial success`.
"""

from __future__ import annotations

import grpc
import grpc.aio
from pydantic import Field, field_validator

from kofagent.component.exporting import SendingExporter
from kofagent.component.protocols import Context
from kofagent.component.rejected import shown
from kofagent.config.base import Duration
from kofagent.config.blocks import GrpcClientBlock, QueueBlock, RetryBlock
from kofagent.net.grpc_client import GrpcClient, target
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire.status import decode_partial_success, decode_status

_METHODS = {
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.TRACES: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
}
_RETRYABLE = frozenset(("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"))


class Config(GrpcClientBlock):
    """Options of the `otlp` exporter."""

    endpoint: str = Field(description="host:port, or with scheme http:// (plain text), https://, dns:/// or unix://.")
    timeout: Duration = Field(5.0, description="Time for one call; 0: none.")
    sending_queue: QueueBlock = Field(QueueBlock(), description="Batches waiting to be sent.")
    retry_on_failure: RetryBlock = Field(RetryBlock(), description="Trying again.")

    @field_validator("endpoint")
    @classmethod
    def _usable(cls, endpoint: str) -> str:
        target(endpoint)
        return endpoint


class OtlpExporter(SendingExporter[Config]):
    """One channel for all signals."""

    def __init__(self, config: Config, context: Context) -> None:
        self._client = GrpcClient(config, context)
        super().__init__(config, context, self._client)

    async def send(self, batch: AnyBatch) -> int | None:
        """One call; the number of items the backend took, None for all. Refused."""
        assert isinstance(batch, Batch)
        try:
            answer = await self._client.call(_METHODS[batch.signal], batch.payload, batch.metadata, self.config.timeout)
        except grpc.aio.AioRpcError as error:
            raise _refused(error) from None
        except OSError as error:
            raise Refused("connection", error.strerror or type(error).__name__) from None
        if not answer:
            return None
        try:
            rejected, message = decode_partial_success(answer)
        except ValueError:
            return None  # the status said that the data is taken
        return self.rejections.taken(batch, rejected, message)


def _refused(error: grpc.aio.AioRpcError) -> Refused:
    code = error.code().name
    retry_after = None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                retry_after = decode_status(value)[2]
            except ValueError:
                pass
    permanent = code not in _RETRYABLE and not (code == "RESOURCE_EXHAUSTED" and retry_after is not None)
    return Refused(f"grpc {code}", shown(error.details() or ""), permanent=permanent, retry_after=retry_after)


COMPONENT = OtlpExporter
