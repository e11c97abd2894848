"""`otlphttp`: sends telemetry with OTLP over HTTP, as protobuf or JSON (OTLP specification 1.x, "OTLP/HTTP").

`endpoint` is a base URL, to which /v1/<signal> is appended; `<signal>_endpoint` is used as given. 429, 502, 503, 504 and broken
connections are retried, not before Retry-After. A request that is too large for the backend (413) is sent again in halves, and
later ones are made as small; an item too large by itself is dropped. Any other status except 2xx is final, unless
`retry_on_failure.retryable_statuses` has it: the data is dropped, counted with the reason `http <status>`; of a request that is
answered with 400 only the items for which it is. Items that a 2xx answer rejects (partial success) are dropped with the reason
`partial success`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field, model_validator

from kofagent.component.protocols import Context, Exporter
from kofagent.component.rejections import Rejections, shown
from kofagent.component.requests import Drop, Rejected, TooLarge
from kofagent.component.sending import Sending
from kofagent.component.size_limit import SizeLimit
from kofagent.component.splitting import OtlpRequest, otlp_requests
from kofagent.config.base import Url
from kofagent.config.blocks import HttpClientBlock, QueueBlock, RetryBlock
from kofagent.net.client import Answer, HttpClient, retry_after_seconds
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp_json
from kofagent.wire.foreign_json import read_json
from kofagent.wire.status import decode_partial_success, decode_status

_RETRYABLE = frozenset((429, 502, 503, 504))
_REJECTED = {Signal.TRACES: "rejectedSpans", Signal.METRICS: "rejectedDataPoints", Signal.LOGS: "rejectedLogRecords"}


class Config(HttpClientBlock):
    """Options of the `otlphttp` exporter."""

    endpoint: Url = Field("", description="Base URL; /v1/traces, /v1/metrics or /v1/logs is appended.")
    traces_endpoint: Url = Field("", description="Full URL for traces, used instead of endpoint.")
    metrics_endpoint: Url = Field("", description="Full URL for metrics, used instead of endpoint.")
    logs_endpoint: Url = Field("", description="Full URL for logs, used instead of endpoint.")
    profiles_endpoint: str = Field("", description="Accepted for compatibility; there are no profiles.")
    encoding: Literal["proto", "json"] = Field("proto", description="Encoding of the requests.")
    sending_queue: QueueBlock = Field(QueueBlock(), description="Queue of batches to send.")
    retry_on_failure: RetryBlock = Field(RetryBlock(), description="Retries.")

    @model_validator(mode="after")
    def _somewhere(self) -> Config:
        if not (self.endpoint or self.traces_endpoint or self.metrics_endpoint or self.logs_endpoint):
            raise ValueError("no endpoint; set endpoint, or traces_endpoint, metrics_endpoint, logs_endpoint for single signals")
        return self

    def url(self, signal: Signal) -> str:
        """Where a signal goes, empty when nothing says so."""
        own: str = getattr(self, f"{signal.value}_endpoint")
        if own or not self.endpoint:
            return own
        return self.endpoint.removesuffix("/") + f"/v1/{signal.value}"


class OtlpHttpExporter(Exporter[Config]):
    """One client for all signals."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._client = HttpClient(config, context)
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
        self._urls = {signal: config.url(signal) for signal in Signal}
        self._json = config.encoding == "json"
        self._headers = {"Content-Type": "application/json" if self._json else "application/x-protobuf"}

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
        url = self._urls[batch.signal]
        if not url:
            raise Refused("no endpoint", f"set endpoint or {batch.signal.value}_endpoint", permanent=True)
        body = batch.payload
        if self._json:
            try:
                body = otlp_json.from_protobuf(batch.signal.value, body)
            except ValueError:
                raise Refused("malformed", "the batch cannot be decoded", permanent=True) from None
        answer = await self._client.request("POST", url, body, self._headers, batch.metadata, compress=True)
        status = answer.status
        if 200 <= status <= 299:
            return self._taken(batch, answer) if answer.body else None
        if status == 413:
            raise TooLarge("http 413", _message(answer))
        raise Refused(
            f"http {status}", _message(answer), permanent=status not in _RETRYABLE, retry_after=retry_after_seconds(answer.headers)
        )

    def _taken(self, batch: Batch, answer: Answer) -> Rejected | None:
        kind = _content_type(answer.headers)
        try:
            if kind == "application/x-protobuf":
                rejected, message = decode_partial_success(answer.body)
            elif kind == "application/json":
                partial = read_json(answer.body).get("partialSuccess") or {}
                rejected, message = int(partial.get(_REJECTED[batch.signal], 0)), str(partial.get("errorMessage", ""))
            else:
                return None
        except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
            return None  # the status said that the data is taken
        return self._rejections.of(batch, rejected, message)


def _content_type(headers: Mapping[str, str]) -> str:
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _message(answer: Answer) -> str:
    """What the backend says about an error: the message of a Status, or the beginning of a text."""
    kind = _content_type(answer.headers)
    try:
        if kind == "application/x-protobuf":
            return shown(decode_status(answer.body)[1])
        if kind == "application/json":
            document = read_json(answer.body)
            return shown(str(document.get("message", ""))) if isinstance(document, dict) else ""
    except (ValueError, RecursionError):
        return ""
    return shown(answer.body.decode("utf-8", "replace")) if kind == "text/plain" else ""


COMPONENT = OtlpHttpExporter
