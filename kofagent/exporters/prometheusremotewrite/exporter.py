"""The exporter `prometheusremotewrite`; see the package's docstring for what it promises."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import snappy

from kofagent.component.checkpoints import file_name
from kofagent.component.protocols import ColumnsConsumer, Context, Exporter
from kofagent.component.requests import Drop, TooLarge
from kofagent.component.sending import Sending
from kofagent.component.size_limit import SizeLimit
from kofagent.component.stored import Form
from kofagent.exporters.prometheusremotewrite.columns import Targets
from kofagent.exporters.prometheusremotewrite.config import RESERVED_HEADERS, Config
from kofagent.exporters.prometheusremotewrite.names import label_name
from kofagent.exporters.prometheusremotewrite.naming import Naming
from kofagent.exporters.prometheusremotewrite.request import WriteRequest, split_written, unpacked
from kofagent.exporters.prometheusremotewrite.translate import METADATA_SECONDS, Translator
from kofagent.exporters.prometheusremotewrite.translated import Options
from kofagent.memory.memo import Memo
from kofagent.net.client import USER_AGENT, HttpClient, retry_after_seconds
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import Family, encode_labels, sorted_labels
from kofagent.telemetry.signal import Signal
from kofagent.wire import remote_write

HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "User-Agent": USER_AGENT,
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
MERGE_ITEMS = 20_000
"""Batches that wait are merged up to this many items: many small ones would cost a round trip each."""
PART = 8192
"""Samples of a page that are encoded at a time."""
_BYTES = 3_000_000
"""`max_batch_size_bytes` 0."""


class PrometheusRemoteWrite(Exporter[Config], ColumnsConsumer):
    """The exporter; see the module's docstring."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        client = config.client
        self._url = client.endpoint
        self._limit = SizeLimit(config.max_batch_size_bytes or _BYTES, advice="set max_batch_size_bytes to what it takes")
        self._ignored_headers = [name for name in client.headers if name.lower() in RESERVED_HEADERS]
        headers = {k: v for k, v in client.headers.items() if k.lower() not in RESERVED_HEADERS}
        self._client = HttpClient(client.model_copy(update={"headers": headers}), context)
        self._external = {label_name(k): v for k, v in config.external_labels.items()}
        chosen = (
            config.resource_constant_labels
            if config.resource_to_telemetry_conversion.empty
            else config.resource_to_telemetry_conversion
        )
        scraped_suffixes = config.suffixes and config.scraped_metric_suffixes
        self._naming = Naming(config.namespace, scraped_suffixes) if config.namespace or scraped_suffixes else None
        self._targets = Targets(
            self._external, chosen.selector(), config.target_info.enabled, config.namespace, naming=self._naming
        )
        self._translator = Translator(
            Options(
                namespace=config.namespace,
                external_labels=self._external,
                suffixes=config.suffixes,
                scraped_suffixes=scraped_suffixes,
                target_info=config.target_info.enabled,
                scope_info=not config.disable_scope_info,
                copy=chosen.selector(),
                metadata=config.send_metadata,
                custom_buckets=config.convert_explicit_histograms_to_nhcb,
                keep_classic=config.keep_classic_histograms,
            ),
            context.log.warning,
        )
        queue = config.queue
        directory = os.path.join(config.wal.directory, file_name(context.kind, context.id) + ".queue") if config.wal else ""
        self._requests_of = self._read_back if queue.storage or directory else self._translated
        self._sending = Sending(
            context,
            self._requests,
            self._send,
            queue=queue,
            retry=config.retry_on_failure,
            limit=self._limit,
            merge_items=MERGE_ITEMS,
            directory=directory,
            form=Form(self._written, snappy.compress, unpacked, split_written),
        )
        self._families_sent: Memo[str, float] = Memo("prometheusremotewrite.families_sent", entries=20_000, size=4 << 20)

    async def start(self) -> None:
        """Connects lazily: only certificates and the authenticator must be there."""
        log = self.context.log
        for name in self._ignored_headers:
            log.warning("headers: %s is set by the protocol, the configured value is ignored", name)
        url = urlsplit(self._url)
        shown = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2], query=""))
        labels = {"exporter": self.context.id, "endpoint": shown}
        counter = self.context.ledger.counter
        prefix = "otelcol_exporter_prometheusremotewrite_"
        self._count_sent = counter(prefix + "sent_batches", "Requests sent, whatever the answer.", **labels)
        self._count_series = counter(prefix + "translated_time_series", "Time series made of OTLP metrics.", **labels)
        self._count_failed = counter(prefix + "failed_translations", "OTLP batches not translated in full.", **labels)
        self._count_duplicates = counter(
            "kofagent_exporter_duplicate_samples",
            "Samples left out: their series has one at the same millisecond.",
            exporter=self.context.id,
        )
        self._count_colliding = counter(
            "kofagent_exporter_colliding_points",
            "Points of metrics that share a name after normalisation.",
            exporter=self.context.id,
        )
        await self._client.start()
        await self._sending.start()

    async def stop(self) -> None:
        """Sends what waits, for a few seconds at most."""
        await self._sending.stop()
        await self._client.stop()

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`."""
        await self._sending.consume(batch)

    async def _send(self, request: WriteRequest) -> None:
        headers = HEADERS
        if self.config.include_metadata_keys and request.metadata:
            forwarded = {
                key: ", ".join(values) for key in self.config.include_metadata_keys if (values := request.metadata.get(key.lower()))
            }
            headers = {**forwarded, **HEADERS}
        self._count_sent(1)
        answer = await self._client.request("POST", self._url, request.encoded(), headers, request.metadata)
        status = answer.status
        if 200 <= status < 300:
            return
        said = answer.body[:300].decode("utf-8", "replace").strip()
        if status == 413:
            raise TooLarge("http 413", said)
        if status == 429 or status >= 500:
            raise Refused(f"http {status}", said, retry_after=retry_after_seconds(answer.headers))
        raise Refused(f"http {status}", said, permanent=True)

    # --- encoding

    def _requests(self, batch: AnyBatch, drop: Drop) -> Iterator[WriteRequest]:
        """The requests of a batch, each encoded when the one before it was taken."""
        return self._columns(batch) if isinstance(batch, MetricBatch) else self._requests_of(batch, drop)

    def _written(self, batch: AnyBatch, drop: Drop) -> Batch:
        """A batch as the queue on disk keeps it: a payload of remote write, values, times and labels as they will be sent."""
        fields: list[bytes] = []
        items = 0
        for request in self._columns(batch) if isinstance(batch, MetricBatch) else self._translated(batch, drop):
            fields.append(request.fields())
            items += request.items
        return Batch(batch.signal, b"".join(fields), items, batch.metadata)

    def _read_back(self, batch: Batch, drop: Drop) -> Iterator[WriteRequest]:
        """The requests of what `_written` made."""
        return WriteRequest([batch.payload], batch.count, batch.metadata).within(self._limit.bytes)

    def _translated(self, batch: Batch, drop: Drop) -> Iterator[WriteRequest]:
        try:
            translated = self._translator.translate(batch.payload)
        except ValueError as error:
            self._count_failed(1)
            raise Refused("malformed", str(error), permanent=True) from None
        if translated.dropped:
            self._count_failed(1)
        self._count_series(len(translated.labels) + len(translated.extras))
        self._count_duplicates(translated.duplicates)
        self._count_colliding(translated.colliding)
        for reason, points in translated.dropped.items():
            drop(reason, points)
        pieces = remote_write.encode_samples(translated.labels, translated.values, translated.times)
        for index, fields in translated.exemplars.items():
            remote_write.add_fields(pieces, index, fields)
        limit = self._limit.bytes
        runs = [[*translated.metadata, *translated.extras, *pieces]]
        if sum(map(len, runs[0])) > limit:
            runs = remote_write.split([*translated.metadata, *translated.extras], 1, limit)
            runs += remote_write.split(pieces, remote_write.PIECES, limit)
        # points become different numbers of series: a batch that had to be split is accounted for in proportion
        left = batch.count - sum(translated.dropped.values())
        total = sum(map(len, runs))
        seen = given = 0
        for run in runs:
            if run:
                seen += len(run)
                upto = left * seen // total
                yield WriteRequest(run, upto - given, batch.metadata)
                given = upto

    def _columns(self, batch: MetricBatch) -> Iterator[WriteRequest]:
        # hot: scrape, 0.45 us a sample with snappy: a group is joined while its pieces are in the processor's cache
        self._targets.rotate()
        fields = self._families(batch) if self.config.send_metadata else []
        fields += self._targets.infos(batch)
        size, items = sum(map(len, fields)), 0
        for group in batch.groups:
            for encoded, count in self._encoded(group):
                if size + len(encoded) > self._limit.bytes and items:
                    request = WriteRequest(fields, items)
                    fields, size, items = [], 0, 0  # the request gives them up when it is sent; nor must they stay here
                    yield request
                fields.append(encoded)
                size += len(encoded)
                items += count
        if items:
            yield WriteRequest(fields, items)

    def _encoded(self, group: Samples) -> Iterator[tuple[bytes, int]]:
        """A group as `timeseries` fields, in parts that fit into a request, with the number of samples."""
        if len(group.series) > PART:
            for part in _parts(group):
                yield from self._encoded(part)
            return
        labels = self._targets.label_bytes(group)
        pieces = remote_write.encode_samples(labels, group.values, group.timestamp_ms)
        if group.exemplars:
            _add_exemplars(pieces, group)
        whole = b"".join(pieces)
        if len(whole) <= self._limit.bytes:
            if whole:
                yield whole, len(labels)
            return
        for run in remote_write.split(pieces, remote_write.PIECES, self._limit.bytes):
            yield b"".join(run), len(run) // remote_write.PIECES

    def _families(self, batch: MetricBatch) -> list[bytes]:
        """Metadata of the families in a batch that were not described during the last minute."""
        now = time.monotonic()
        families: dict[str, Family] = {s.family.name: s.family for g in batch.groups for s in g.series if s.family}
        due = []
        for name, family in families.items():
            at = self._families_sent.find(name)
            if at is None or now - at >= METADATA_SECONDS:
                due.append(family)
                self._families_sent[name] = now
        named: Callable[[Family], str] = attrgetter("name") if self._naming is None else self._naming.family
        return [remote_write.metadata(remote_write.METADATA_TYPES.get(f.type, 0), named(f), f.help, f.unit) for f in due]


def _parts(group: Samples) -> Iterator[Samples]:
    """A large group in parts: its pieces and their join would take as much memory as the page, until the last request is sent."""
    at, exemplars = group.timestamp_ms, group.exemplars or {}
    for start in range(0, len(group.series), PART):
        end = start + PART
        times = at if isinstance(at, int) else at[start:end]
        pinned = {i - start: one for i, one in exemplars.items() if start <= i < end} if exemplars else None
        yield Samples(group.series[start:end], group.values[start:end], times, group.resource, pinned)


def _add_exemplars(pieces: list[bytes], group: Samples) -> None:
    times: Any = None
    for index, exemplar in (group.exemplars or {}).items():
        at = exemplar.timestamp_ms
        if at is None:
            times = times or group.timestamps()
            at = times[index]
        labels = encode_labels(sorted_labels(dict(exemplar.labels)))
        remote_write.add_fields(pieces, index, remote_write.exemplar(labels, exemplar.value, at))
