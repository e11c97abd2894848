"""`awscloudwatchlogs`: log records to Amazon CloudWatch Logs (PutLogEvents, API 2014-03-28).

Upstream: exporter/awscloudwatchlogsexporter of the collector's contrib; the same options and the same JSON message (`events`).
Group and stream are made when the service says that they do not exist, also when they are deleted while running; retention
and tags are set on groups that the exporter makes. Events older than 14 days or more than 2 hours ahead are dropped, counted
(`too old`, `too new`), as are those the service rejects (`expired` too) and records without any message (`empty message`).
A message longer than CloudWatch takes is shortened, counted in `kofagent_truncated_items_total`; a text body is cut so that
the JSON around it stays whole.

Throttling, unavailability and missing rights leave the data to be tried again; an invalid request is dropped, counted.
Where a batch needs several calls and one fails, the next try goes on behind the last call that succeeded.

Credentials are botocore's default chain; they are never logged. The environment's AWS_ENDPOINT_URL_CLOUDWATCH_LOGS and
AWS_ENDPOINT_URL are obeyed when `endpoint` is not set.
"""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from typing import Any

from pydantic import Field, field_validator, model_validator

from kofagent.component.durable import make_sender
from kofagent.component.protocols import Context, Exporter
from kofagent.config.base import ComponentConfig, Secret
from kofagent.config.blocks import HttpClientBlock, QueueBlock, RetryBlock, TlsClientBlock
from kofagent.exporters.awscloudwatchlogs import events
from kofagent.exporters.awscloudwatchlogs.api import LogsApi
from kofagent.exporters.awscloudwatchlogs.credentials import Credentials
from kofagent.net.client import HttpClient
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

RETENTIONS = (0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
_TAG = re.compile(r"[\w\s.:/=+\-@]*\Z")
_HALF_SENT = 64


class Config(ComponentConfig):
    """Options of upstream's awscloudwatchlogs exporter."""

    log_group_name: str = Field(description="Log group; made when it does not exist.", min_length=1, max_length=512)
    log_stream_name: str = Field(description="Log stream in the group; made when it does not exist.", min_length=1, max_length=512)
    region: str = Field("", description="AWS region; empty: AWS_REGION, the profile's, or the instance's.")
    endpoint: str = Field("", description="Service endpoint, host or URL; empty: AWS' for the region.")
    log_retention: int = Field(0, description="Days a newly made group keeps its events; 0: for ever.")
    tags: dict[str, str | None] = Field({}, description="Tags of a newly made group, at most 50.")
    raw_log: bool = Field(False, description="Send the body alone, as embedded metric format needs it.")
    sending_queue: QueueBlock = Field(QueueBlock(), description="Sending queue.")
    retry_on_failure: RetryBlock = Field(RetryBlock(), description="Retries.")
    role_arn: str = Field("", description="IAM role to assume.")
    external_id: str = Field("", description="External id for assuming the role.")
    profile: str = Field("", description="Profile of the shared AWS files.")
    shared_credentials_file: list[str] = Field([], description="Shared credentials file; the first one is read.")
    imds_retries: int = Field(1, ge=0, description="Retries of the instance metadata service.")
    local_mode: bool = Field(False, description="Do not ask the instance metadata service.")
    resource_arn: str = Field("", description="Accepted for compatibility; upstream uses it for X-Ray only.")
    max_retries: int = Field(2, ge=0, description="Quick retries of one call when throttled, before retry_on_failure.")
    request_timeout_seconds: int = Field(30, ge=0, description="Time for one call, seconds.")
    num_workers: int = Field(8, ge=1, description="Connections at once.")
    no_verify_ssl: bool = Field(False, description="Do not check the service's certificate.")
    certificate_file_path: str = Field("", description="PEM file of the CAs that are trusted.")
    proxy_address: Secret = Field(Secret(""), description="URL of a proxy; empty: HTTPS_PROXY and NO_PROXY are obeyed.")

    @field_validator("log_group_name", "log_stream_name", mode="after")
    @classmethod
    def _name(cls, value: str, info: Any) -> str:
        if info.field_name == "log_stream_name" and re.search(r"[:*]", value):
            raise ValueError("a stream name has no : and no *")
        if info.field_name == "log_group_name" and not re.fullmatch(r"[.\-_/#A-Za-z0-9]+", value):
            raise ValueError("a group name is made of letters, digits and . - _ / #")
        return value

    @field_validator("log_retention", mode="after")
    @classmethod
    def _retention(cls, value: int) -> int:
        if value not in RETENTIONS:
            nearest = min(RETENTIONS, key=lambda r: abs(r - value))
            raise ValueError(f"{value} days is no retention AWS knows; the nearest is {nearest}")
        return value

    @model_validator(mode="after")
    def _tags(self) -> Config:
        if len(self.tags) > 50:
            raise ValueError("at most 50 tags")
        for key, value in self.tags.items():
            if not 1 <= len(key) <= 128 or not _TAG.match(key):
                raise ValueError(f"tag {key!r}: a key has 1 to 128 letters, digits, spaces and . : / = + - @ _")
            if value is not None and (len(value) > 256 or not _TAG.match(value)):
                raise ValueError(f"tag {key!r}: a value has at most 256 letters, digits, spaces and . : / = + - @ _")
        return self


class _Progress:
    """What is left of a batch that needs several calls."""

    def __init__(self, batch: Batch, calls: list[events.Call]) -> None:
        self.batch = batch
        self.calls = calls
        self.delivered = 0


class CloudWatchLogsExporter(Exporter):
    """Sends logs; see the module."""

    Config = Config
    signals = frozenset({Signal.LOGS})

    def __init__(self, config: Any, context: Context) -> None:
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


COMPONENT = CloudWatchLogsExporter
