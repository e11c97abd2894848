"""The exporter `awscloudwatchlogs`; see the package's docstring for what it promises."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from kofagent.component.protocols import Context, Exporter
from kofagent.component.requests import Drop, Rejected
from kofagent.component.sending import Sending
from kofagent.component.size_limit import SizeLimit
from kofagent.config.blocks import HttpClientBlock, TlsClientBlock
from kofagent.exporters.awscloudwatchlogs import events
from kofagent.exporters.awscloudwatchlogs.api import LogsApi
from kofagent.exporters.awscloudwatchlogs.config import Config
from kofagent.net.aws import Credentials, Sources
from kofagent.net.client import HttpClient
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal


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
        self._event_limit = (config.max_event_payload_bytes or events.MAX_CALL_BYTES) - events.EVENT_OVERHEAD
        self._limit = SizeLimit(events.MAX_CALL_BYTES, advice="set sending_queue.batch.max_size to send less at once")
        self._sending = Sending(
            context,
            self._calls,
            self._put,
            queue=config.sending_queue,
            retry=config.retry_on_failure,
            limit=self._limit,
            merge_items=events.MAX_CALL_EVENTS,
        )
        self._api: LogsApi | None = None
        self._truncated = context.ledger.counter(
            "kofagent_truncated_items", "Items delivered shortened.", component=context.id, signal="logs"
        )
        self._warned = False

    async def start(self) -> None:
        """Finds botocore and certificates; the service itself is asked with the first batch."""
        self._api = LogsApi(self._client, Credentials(_sources(self._options), "logs", "awscloudwatchlogs"), self._options)
        await self._client.start()
        await self._sending.start()

    async def stop(self) -> None:
        """Drains the queue."""
        await self._sending.stop()
        await self._client.stop()

    async def consume(self, batch: Batch) -> None:
        """As `Consumer.consume`."""
        await self._sending.consume(batch)

    def _calls(self, batch: Batch, drop: Drop) -> Iterator[events.Call]:
        now = time.time_ns() // 1_000_000
        stream = (self.config.log_group_name, self.config.log_stream_name)
        try:
            built = events.build(batch.payload, stream, self.config.raw_log, now, self._event_limit)
        except ValueError:
            raise Refused("malformed", "the batch cannot be decoded", permanent=True) from None
        keep, old, new = events.within(built.events, now)
        for reason, count, why in (
            ("empty message", built.empty, "records without a body cannot be sent with raw_log"),
            ("too old", old, "events are older than 14 days"),
            ("too new", new, "events are more than 2 hours ahead of this machine's clock"),
        ):
            drop(reason, count)
            self._warn(reason, count, why)
        if built.truncated:
            self._truncated(built.truncated)
        yield from events.plan(keep, self._limit.bytes)

    async def _put(self, call: events.Call) -> Rejected | None:
        assert self._api is not None
        rejected = dict((await self._api.put(call)).by_reason())
        for reason, count in rejected.items():
            self._warn(reason, count, "CloudWatch rejected events by their time")
        return rejected

    def _warn(self, reason: str, count: int, why: str) -> None:
        if count and not self._warned:
            self._warned = True
            self.context.log.warning("dropped %d log records (%s): %s; further ones are only counted", count, reason, why)


def _sources(options: Config) -> Sources:
    return Sources(
        options.region,
        options.profile,
        options.shared_credentials_file[0] if options.shared_credentials_file else "",
        options.imds_retries,
        options.local_mode,
        options.role_arn,
        options.external_id,
    )
