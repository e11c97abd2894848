"""The exporter `awscloudwatchlogs`; see the package's docstring for what it promises."""

from __future__ import annotations

import os
import time
from collections import OrderedDict

from kofagent.component.durable import make_sender
from kofagent.component.protocols import Context, Exporter
from kofagent.config.blocks import HttpClientBlock, TlsClientBlock
from kofagent.exporters.awscloudwatchlogs import events
from kofagent.exporters.awscloudwatchlogs.api import LogsApi
from kofagent.exporters.awscloudwatchlogs.config import Config
from kofagent.exporters.awscloudwatchlogs.credentials import Credentials
from kofagent.net.client import HttpClient
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

_HALF_SENT = 64


class _Progress:
    """What is left of a batch that needs several calls."""

    def __init__(self, batch: Batch, calls: list[events.Call]) -> None:
        self.batch = batch
        self.calls = calls
        self.delivered = 0


class CloudWatchLogsExporter(Exporter[Config]):
    """Sends logs; see the module."""

    signals = frozenset({Signal.LOGS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        options = config.model_copy(
            update={
                "endpoint": config.endpoint
                or os.environ.get("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "")
                or os.environ.get("AWS_ENDPOINT_URL", "")
            }
        )
        self._options = options
        self._client = HttpClient(
            HttpClientBlock(
                timeout=float(config.request_timeout_seconds),
                compression="none",
                max_conns_per_host=config.num_workers,
                proxy_url=config.proxy_address.get_secret_value(),
                tls=TlsClientBlock(ca_file=config.certificate_file_path, insecure_skip_verify=config.no_verify_ssl),
            ),
            context,
        )
        self._sender = make_sender(
            context, self._send, queue=config.sending_queue, retry=config.retry_on_failure, merge_items=events.MAX_CALL_EVENTS
        )
        self._api: LogsApi | None = None
        # Keyed by the identity of the batch, which the entry keeps alive; the oldest go when callers never come back.
        self._half: OrderedDict[int, _Progress] = OrderedDict()
        self._truncated = context.ledger.counter(
            "kofagent_truncated_items", "Items delivered shortened.", component=context.id, signal="logs"
        )
        self._warned = False

    async def start(self) -> None:
        """Finds botocore and certificates; the service itself is asked with the first batch."""
        self._api = LogsApi(self._client, Credentials(self._options), self._options)
        await self._client.start()
        await self._sender.start()

    async def stop(self) -> None:
        """Drains the queue."""
        await self._sender.stop()
        await self._client.stop()

    async def consume(self, batch: AnyBatch) -> None:
        """Returns when CloudWatch took the batch."""
        await self._sender.consume(batch)

    async def _send(self, batch: AnyBatch) -> int:
        assert isinstance(batch, Batch) and self._api is not None
        progress = self._half.pop(id(batch), None) or self._prepare(batch)
        try:
            while progress.calls:
                call = progress.calls[0]
                try:
                    rejected = await self._api.put(call)
                except Refused as refused:
                    if not refused.permanent:
                        raise
                    # The other calls may still be fine.
                    self._drop(refused.reason, len(call.events), str(refused))
                else:
                    lost = 0
                    for reason, count in rejected.by_reason():
                        self._drop(reason, count, "CloudWatch rejected events by their time")
                        lost += count
                    progress.delivered += max(0, len(call.events) - lost)
                progress.calls.pop(0)
        except BaseException:
            self._half[id(batch)] = progress
            if len(self._half) > _HALF_SENT:
                self._half.popitem(last=False)
            raise
        return progress.delivered

    def _prepare(self, batch: Batch) -> _Progress:
        now = time.time_ns() // 1_000_000
        stream = (self.config.log_group_name, self.config.log_stream_name)
        try:
            built = events.build(batch.payload, stream, self.config.raw_log, now)
        except ValueError:
            raise Refused("malformed", "the batch cannot be decoded", permanent=True) from None
        keep, old, new = events.within(built.events, now)
        self._drop("empty message", built.empty, "records without a body cannot be sent with raw_log")
        self._drop("too old", old, "events are older than 14 days")
        self._drop("too new", new, "events are more than 2 hours ahead of this machine's clock")
        if built.truncated:
            self._truncated(built.truncated)
        return _Progress(batch, list(events.plan(keep)))

    def _drop(self, reason: str, count: int, why: str) -> None:
        if not count:
            return
        self.context.ledger.dropped(self.context.id, Signal.LOGS, reason, count)
        if not self._warned:
            self._warned = True
            self.context.log.warning("dropped %d log records (%s): %s; further ones are only counted", count, reason, why)
