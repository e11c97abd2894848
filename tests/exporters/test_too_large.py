"""OTLP requests that are too large for the backend: our own receiver with a low limit, over HTTP and gRPC, and what other servers say."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest

from kofagent.component.requests import TooLarge
from kofagent.exporters.otlp import COMPONENT as OtlpExporter
from kofagent.exporters.otlp import _refused
from kofagent.exporters.otlphttp import COMPONENT as OtlpHttpExporter
from kofagent.receivers.otlp import COMPONENT as OtlpReceiver
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.wire.status import encode_status
from tests.support.components import Sink, make
from tests.support.otlp import REQUEST, metric_request, trace_request
from tests.support.otlp_backend import Sending

HTTP = {"protocols": {"http": {"endpoint": "127.0.0.1:0", "max_request_body_size": 100_000}}}
GRPC = {"protocols": {"grpc": {"endpoint": "127.0.0.1:0", "max_recv_msg_size_mib": 1}}}


class Limited:
    """Our receiver with a low limit, and an exporter that sends to it."""

    def __init__(self, protocol: str) -> None:
        self.sink = Sink()
        self.protocol = protocol
        self.receiver = make(OtlpReceiver, HTTP if protocol == "http" else GRPC, id="otlp")
        self.receiver.outputs = dict.fromkeys(Signal, self.sink)

    async def __aenter__(self) -> Limited:
        await self.receiver.start()
        url = f"http://127.0.0.1:{self.receiver.ports[self.protocol]}"
        cls = OtlpHttpExporter if self.protocol == "http" else OtlpExporter
        self.sending = Sending(cls, "otlp/x", {"endpoint": url, "compression": "none"})
        await self.sending.exporter.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.sending.exporter.stop()
        await self.receiver.stop()

    @property
    def rejected(self) -> float:
        """Requests that our HTTP server refused; that of gRPC refuses below us."""
        return self.receiver.context.ledger.sum("kofagent_receiver_rejected_requests_total")

    def bodies(self) -> list[str]:
        request = REQUEST["logs"].FromString(self.sink.payload(Signal.LOGS))
        return [r.body.string_value for e in request.resource_logs for s in e.scope_logs for r in s.log_records]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_logs_arrive_once_in_order_and_what_fits_nowhere_is_dropped(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"{n} " + "x" * 900 for n in range(3000)]
    giant = "y" * 2_000_000
    async with Limited(protocol) as it:
        await it.sending.logs(*texts[:1500], giant, *texts[1500:])
        assert it.bodies() == texts
        assert it.sending.total("otelcol_exporter_sent_log_records_total") == 3000
        reason = "http 413" if protocol == "http" else "grpc RESOURCE_EXHAUSTED"
        assert it.sending.dropped(reason) == 1
        assert it.sending.host.ledger.sum("kofagent_dropped_items_total") == 1
        rejected = it.rejected
        await it.sending.logs(*texts)
        assert it.bodies() == texts * 2
        assert it.rejected == rejected, "the size is remembered"
    assert caplog.text.count("sending_queue.batch.max_size") == 1


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_spans_and_points_too(protocol: str) -> None:
    async with Limited(protocol) as it:
        await it.sending.exporter.consume(Batch(Signal.TRACES, trace_request(9000), 9000))
        await it.sending.exporter.consume(Batch(Signal.METRICS, metric_request(99_999), 99_999))
        assert sum(b.count for b in it.sink.batches if b.signal is Signal.TRACES) == 9000
        assert sum(b.count for b in it.sink.batches if b.signal is Signal.METRICS) == 99_999
        assert len(it.sink.batches) > 2
        assert it.sending.host.ledger.sum("kofagent_dropped_items_total") == 0


def error(code: str, said: str, trailing: tuple[tuple[str, Any], ...] = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(grpc.StatusCode[code], grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=said)


@pytest.mark.parametrize(
    "code, said",
    [
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (5000000 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "grpc: received message after decompression larger than max 4194304"),
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (5000000 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (5000000 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000000"),
        ("RESOURCE_EXHAUSTED", "Received message exceeds the maximum configured message size."),
        ("OUT_OF_RANGE", "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes"),
        ("UNKNOWN", "Received http2 header with status: 413"),
    ],
)
def test_servers_that_say_that_it_is_the_size(code: str, said: str) -> None:
    refusal = _refused(error(code, said))
    assert isinstance(refusal, TooLarge)
    assert (refusal.permanent, refusal.reason) == (True, f"grpc {code}")


@pytest.mark.parametrize(
    "code, said, details, permanent",
    [
        ("RESOURCE_EXHAUSTED", "quota used up", None, True),
        ("RESOURCE_EXHAUSTED", "quota used up", encode_status(8, "later", 2), False),
        ("RESOURCE_EXHAUSTED", "rate exceeds max of your plan", encode_status(8, "later", 2), False),
        ("OUT_OF_RANGE", "too old", None, False),
        ("UNKNOWN", "Received http2 header with status: 404", None, True),
        ("INVALID_ARGUMENT", "message too large for our taste", None, True),
    ],
)
def test_other_refusals_keep_their_meaning(code: str, said: str, details: bytes | None, permanent: bool) -> None:
    refusal = _refused(error(code, said, (("grpc-status-details-bin", details),) if details else ()))
    assert not isinstance(refusal, TooLarge)
    assert refusal.permanent is permanent
