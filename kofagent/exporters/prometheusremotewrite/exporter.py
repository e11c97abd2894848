"""The exporter `prometheusremotewrite`; see the package's docstring for what it promises."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import snappy

from kofagent.component.protocols import ColumnsConsumer, Context, Exporter
from kofagent.component.sending import Sender
from kofagent.config.blocks import QueueBlock
from kofagent.exporters.prometheusremotewrite.columns import Targets
from kofagent.exporters.prometheusremotewrite.config import RESERVED_HEADERS, Config
from kofagent.exporters.prometheusremotewrite.names import label_name
from kofagent.exporters.prometheusremotewrite.translate import METADATA_SECONDS, Translator
from kofagent.exporters.prometheusremotewrite.translated import Options, Translated
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
SMALL = 16 << 10
"""A request of fewer bytes (not compressed) is not halved: no backend takes less, a 413 means something else then."""
MERGE_ITEMS = 20_000
"""Batches that wait are merged up to this many items: many small ones would cost a round trip each."""
_TOO_LARGE = "http 413"


class _Request:
    """One request of a batch: the fields it is made of, then its compressed body until the backend took it."""

    __slots__ = ("_body", "_fields", "items")

    def __init__(self, fields: Sequence[bytes], items: int) -> None:
        self._fields = fields
        self._body: bytes | None = None
        self.items = items

    def encoded(self) -> bytes:
        """The compressed body."""
        if self._body is None:
            self._body = snappy.compress(b"".join(self._fields))
            self._fields = ()
        return self._body

    def halved(self) -> tuple[int, list[_Request]] | None:
        """Bytes of the request that was `encoded`, and two of half its size in its place; None when it is not to be halved."""
        body = snappy.uncompress(self.encoded())
        runs = remote_write.halves(body) if len(body) >= SMALL else None
        if runs is None:
            return None
        first = self.items * len(runs[0]) // (len(runs[0]) + len(runs[1]))
        return len(body), [_Request(runs[0], first), _Request(runs[1], self.items - first)]


class _Work:
    """A batch and what of it is not delivered yet: the request under way, those that are still to be made."""

    def __init__(self, batch: AnyBatch, requests: Iterator[_Request], dropped: dict[str, int]) -> None:
        self.batch = batch
        self._requests = requests
        self._halves: list[_Request] = []
        self.current = next(requests, None)
        self.dropped = dropped
        self.delivered = 0
        self.refusal: Refused | None = None

    def advance(self) -> None:
        """On to the next request."""
        self.current = None  # its bytes are given back before the next ones are made
        self.current = self._halves.pop() if self._halves else next(self._requests, None)

    def halve(self) -> int:
        """The request under way becomes two, the first of which is the next; its size in bytes, 0 when it is not to be halved."""
        halved = self.current.halved() if self.current is not None else None
        if halved is None:
            return 0
        size, (self.current, second) = halved
        self._halves.append(second)
        return size


class PrometheusRemoteWrite(Exporter[Config], ColumnsConsumer):
    """The exporter; see the module's docstring."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        client = config.client
        self._url = client.endpoint
        self._limit = config.max_batch_size_bytes or 3_000_000
        self._ignored_headers = [name for name in client.headers if name.lower() in RESERVED_HEADERS]
        headers = {k: v for k, v in client.headers.items() if k.lower() not in RESERVED_HEADERS}
        self._client = HttpClient(client.model_copy(update={"headers": headers}), context)
        self._external = {label_name(k): v for k, v in config.external_labels.items()}
        chosen = (
            config.resource_constant_labels
            if config.resource_to_telemetry_conversion.empty
            else config.resource_to_telemetry_conversion
        )
        self._targets = Targets(self._external, chosen.selector(), config.target_info.enabled, config.namespace)
        self._translator = Translator(
            Options(
                namespace=config.namespace,
                external_labels=self._external,
                suffixes=config.suffixes,
                target_info=config.target_info.enabled,
                scope_info=not config.disable_scope_info,
                copy=chosen.selector(),
                metadata=config.send_metadata,
                custom_buckets=config.convert_explicit_histograms_to_nhcb,
                keep_classic=config.keep_classic_histograms,
            ),
            context.log.warning,
        )
        queue = config.remote_write_queue
        # one consumer, so that requests keep their order; without a queue a caller waits for its turn instead
        self._sender = Sender(
            context,
            self._send,
            retry=config.retry_on_failure,
            merge_items=MERGE_ITEMS,
            queue=QueueBlock(num_consumers=1, queue_size=queue.queue_size)
            if queue.enabled
            else QueueBlock(num_consumers=1, queue_size=1, block_on_overflow=True),
        )
        self._work: _Work | None = None
        self._families_sent: Memo[str, float] = Memo("prometheusremotewrite.families_sent", entries=20_000, size=4 << 20)
        self._logged_reasons: set[str] = set()

    async def start(self) -> None:
        """Connects lazily: only certificates and the authenticator must be there."""
        config, log = self.config, self.context.log
        for name in self._ignored_headers:
            log.warning("headers: %s is set by the protocol, the configured value is ignored", name)
        if config.wal is not None:
            log.warning("wal has no effect: a durable queue is not available for this exporter, remove the block")
        if config.export_created_metric is not None:
            log.warning("export_created_metric has no effect, remove the block")
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
        await self._sender.start()

    async def stop(self) -> None:
        """Sends what waits, for a few seconds at most."""
        await self._sender.stop()
        await self._client.stop()

    async def consume(self, batch: AnyBatch) -> None:
        """As `Consumer.consume`."""
        await self._sender.consume(batch)

    # --- one batch

    async def _send(self, batch: AnyBatch) -> int:
        """Sends what of `batch` is not sent yet, in order; returns how many items the backend took."""
        work = self._work
        if work is None or work.batch is not batch:
            work = self._work = self._prepare(batch)
        while (request := work.current) is not None:
            try:
                await self._post(request.encoded(), batch)
            except Refused as refusal:
                if not refusal.permanent:
                    raise
                if refusal.reason == _TOO_LARGE and (size := work.halve()):
                    self._smaller(size // 2)
                    continue
                if refusal.reason not in self._logged_reasons:
                    self._logged_reasons.add(refusal.reason)
                    self.context.log.error("the backend will not take these samples (%s): %s", refusal.reason, refusal.detail)
                work.refusal = refusal
                work.dropped[refusal.reason] = work.dropped.get(refusal.reason, 0) + request.items
            else:
                work.delivered += request.items
            work.advance()
        self._work = None
        if work.refusal is not None and not work.delivered:
            raise work.refusal
        for reason, items in work.dropped.items():
            self.context.ledger.dropped(self.context.id, batch.signal, reason, items)
        return work.delivered

    def _smaller(self, limit: int) -> None:
        """From now on requests have at most so many bytes."""
        if limit < self._limit:
            self._limit = limit
            self.context.log.warning(
                "the backend takes no request of %d bytes (413); they are halved and now made of at most %d; "
                "set max_batch_size_bytes to what it takes",
                2 * limit,
                limit,
            )

    async def _post(self, body: bytes, batch: AnyBatch) -> None:
        headers = HEADERS
        if self.config.include_metadata_keys and batch.metadata:
            forwarded = {
                key: ", ".join(values) for key in self.config.include_metadata_keys if (values := batch.metadata.get(key.lower()))
            }
            headers = {**forwarded, **HEADERS}
        self._count_sent(1)
        answer = await self._client.request("POST", self._url, body, headers, batch.metadata)
        status = answer.status
        if 200 <= status < 300:
            return
        said = answer.body[:300].decode("utf-8", "replace").strip()
        if status == 429 or status >= 500:
            raise Refused(f"http {status}", said, retry_after=retry_after_seconds(answer.headers))
        raise Refused(f"http {status}", said, permanent=True)

    # --- encoding

    def _prepare(self, batch: AnyBatch) -> _Work:
        if isinstance(batch, MetricBatch):
            return _Work(batch, self._columns(batch), {})
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
        return _Work(batch, self._requests(translated, batch), translated.dropped)

    def _requests(self, translated: Translated, batch: Batch) -> Iterator[_Request]:
        pieces = remote_write.encode_samples(translated.labels, translated.values, translated.times)
        for index, fields in translated.exemplars.items():
            remote_write.add_fields(pieces, index, fields)
        runs = [[*translated.metadata, *translated.extras, *pieces]]
        if sum(map(len, runs[0])) > self._limit:
            runs = remote_write.split([*translated.metadata, *translated.extras], 1, self._limit)
            runs += remote_write.split(pieces, remote_write.PIECES, self._limit)
        # points become different numbers of series: a batch that had to be split is accounted for in proportion
        left = batch.count - sum(translated.dropped.values())
        total = sum(map(len, runs))
        seen = given = 0
        for run in runs:
            if run:
                seen += len(run)
                upto = left * seen // total
                yield _Request(run, upto - given)
                given = upto

    def _columns(self, batch: MetricBatch) -> Iterator[_Request]:
        # hot: scrape, 0.45 us a sample with snappy: a group is joined while its pieces are in the processor's cache
        self._targets.rotate()
        fields = self._families(batch) if self.config.send_metadata else []
        fields += self._targets.infos(batch)
        size, items = sum(map(len, fields)), 0
        for group in batch.groups:
            for encoded, count in self._encoded(group):
                if size + len(encoded) > self._limit and items:
                    yield _Request(fields, items)
                    fields, size, items = [], 0, 0
                fields.append(encoded)
                size += len(encoded)
                items += count
        if items:
            yield _Request(fields, items)

    def _encoded(self, group: Samples) -> Iterator[tuple[bytes, int]]:
        """A group as `timeseries` fields, in parts that fit into a request, with the number of samples."""
        labels = self._targets.label_bytes(group)
        pieces = remote_write.encode_samples(labels, group.values, group.timestamp_ms)
        if group.exemplars:
            _add_exemplars(pieces, group)
        whole = b"".join(pieces)
        if len(whole) <= self._limit:
            if whole:
                yield whole, len(labels)
            return
        for run in remote_write.split(pieces, remote_write.PIECES, self._limit):
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
        return [remote_write.metadata(remote_write.METADATA_TYPES.get(f.type, 0), f.name, f.help, f.unit) for f in due]


def _add_exemplars(pieces: list[bytes], group: Samples) -> None:
    times: Any = None
    for index, exemplar in (group.exemplars or {}).items():
        at = exemplar.timestamp_ms
        if at is None:
            times = times or group.timestamps()
            at = times[index]
        labels = encode_labels(sorted_labels(dict(exemplar.labels)))
        remote_write.add_fields(pieces, index, remote_write.exemplar(labels, exemplar.value, at))
