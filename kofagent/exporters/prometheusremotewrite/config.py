"""The options of the exporter: upstream's spelling and defaults (contrib exporter/prometheusremotewriteexporter 0.160)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ByteSize, ComponentConfig, Duration
from kofagent.config.blocks import HttpClientBlock, QueueBlock, RetryBlock
from kofagent.exporters.prometheusremotewrite.labels import SERVICE
from kofagent.exporters.prometheusremotewrite.names import label_name

RESERVED_HEADERS = frozenset({"content-encoding", "content-type", "user-agent", "x-prometheus-remote-write-version"})
"""Headers that only the protocol may set."""


class RemoteWriteHttpBlock(HttpClientBlock):
    """`http`: confighttp client options with the timeout and compression of remote write."""

    timeout: Duration = Field(5.0, description="Time for one request; 0: none.")
    compression: Literal["snappy", ""] = Field("", description="Only snappy, which the protocol asks for.")

    @field_validator("compression", mode="before")
    @classmethod
    def _only_snappy(cls, value: object) -> object:
        if value not in ("snappy", "", None):
            raise ValueError("remote write is always compressed with snappy; leave this option out")
        return value or ""


class QueueOptions(ComponentConfig):
    """`remote_write_queue`."""

    enabled: bool = Field(True, description="Queue batches while a request is being sent.")
    queue_size: int = Field(10000, ge=0, description="Batches that may be queued.")
    num_consumers: int = Field(
        5,
        ge=0,
        description="Accepted for compatibility; requests go one after the other, which keeps the order of every "
        "series; batches that wait are merged into one request instead.",
    )

    @model_validator(mode="after")
    def _not_empty(self) -> QueueOptions:
        if self.enabled and self.queue_size == 0:
            raise ValueError("queue_size 0 would refuse everything; give it a size or set enabled: false")
        return self


class RetryOptions(RetryBlock):
    """`retry_on_failure` with the first wait of remote write."""

    initial_interval: Duration = Field(0.05, description="First wait.")


class ResourceLabelOptions(ComponentConfig):
    """`resource_constant_labels` and, with the old options too, `resource_to_telemetry_conversion`."""

    idle_unless_enabled = False

    included: list[str] = Field([], description="Patterns (* and ?) of resource attributes to copy to every series.")
    excluded: list[str] = Field([], description="Patterns of those to leave out; alone: all others are copied.")
    enabled: bool = Field(False, description="Copy all resource attributes to every series.")
    exclude_service_attributes: bool = Field(
        False, description="Leave out service.name, service.namespace and service.instance.id, which are job and instance."
    )

    @model_validator(mode="after")
    def _one_way(self) -> ResourceLabelOptions:
        if (self.enabled or self.exclude_service_attributes) and (self.included or self.excluded):
            raise ValueError("use either enabled and exclude_service_attributes or included and excluded, not both")
        return self

    @property
    def empty(self) -> bool:
        """True when nothing was asked for."""
        return not (self.enabled or self.exclude_service_attributes or self.included or self.excluded)

    def selector(self) -> Callable[[str], bool] | None:
        """Which resource attributes are copied; None for none."""
        if self.enabled:
            leave = frozenset(SERVICE if self.exclude_service_attributes else ())
            return lambda key: key not in leave
        if not self.included and not self.excluded:
            return None
        take = _patterns(self.included) if self.included else None
        leave_out = _patterns(self.excluded)
        return lambda key: not _matches(leave_out, key) and (take is None or _matches(take, key))


def _patterns(globs: list[str]) -> list[re.Pattern[str]]:
    # fnmatch knows [...] as well, upstream does not: it is literal here
    return [re.compile(fnmatch.translate(glob.replace("[", "[[]"))) for glob in globs]


def _matches(patterns: list[re.Pattern[str]], key: str) -> bool:
    return any(p.match(key) for p in patterns)


class TargetInfoOptions(ComponentConfig):
    """`target_info`."""

    enabled: bool = Field(
        True,
        description="Write target_info with the attributes of each resource; it ends with a scraped target only.",
    )


class WalOptions(ComponentConfig):
    """`wal`, upstream's own write-ahead log: here a queue on disk as with `sending_queue.storage`, in a directory of its own."""

    directory: str = Field(min_length=1, description="Directory of the queue, which is made if it does not exist.")
    buffer_size: int = Field(300, description="Accepted for compatibility.")
    truncate_frequency: Duration = Field(60.0, description="Accepted for compatibility.")
    lag_record_frequency: Duration = Field(15.0, description="Accepted for compatibility.")


class CreatedMetricOptions(ComponentConfig):
    """`export_created_metric`, which upstream removed."""

    enabled: bool = Field(False, description="Accepted for compatibility.")


class Config(RemoteWriteHttpBlock):
    """Options of `prometheusremotewrite`."""

    http: RemoteWriteHttpBlock | None = Field(
        None,
        description="Client options (endpoint, tls, headers, auth, ...); takes precedence over the same options outside it.",
    )
    namespace: str = Field("", description="Prefix of every metric name of OTLP metrics.")
    external_labels: dict[str, str] = Field({}, description="Labels added to every series that does not have them.")
    remote_write_queue: QueueOptions = Field(QueueOptions(), description="The sending queue, in memory.")
    sending_queue: QueueBlock | None = Field(
        None,
        description="The sending queue with the options of the other exporters, among them storage and batch; used instead of "
        "remote_write_queue. num_consumers has no effect: requests are sent one after the other, in order.",
    )
    retry_on_failure: RetryOptions = Field(RetryOptions(), description="Retry of 5xx, 429 and broken connections.")
    max_batch_size_bytes: ByteSize = Field(3_000_000, ge=0, description="Largest request before compression; 0: the default.")
    max_batch_request_parallelism: int | None = Field(
        None, ge=1, description="Accepted for compatibility; requests are sent one after the other, in order."
    )
    resource_to_telemetry_conversion: ResourceLabelOptions = Field(
        ResourceLabelOptions(), description="Copy resource attributes to labels (deprecated: resource_constant_labels)."
    )
    resource_constant_labels: ResourceLabelOptions = Field(
        ResourceLabelOptions(), description="Resource attributes that become labels of every series."
    )
    target_info: TargetInfoOptions = Field(TargetInfoOptions(), description="The series target_info.")
    disable_scope_info: bool = Field(False, description="No otel_scope_* labels on series of OTLP metrics.")
    add_metric_suffixes: bool = Field(True, description="Append unit and type to names (deprecated: translation_strategy).")
    translation_strategy: Literal[
        "", "UnderscoreEscapingWithSuffixes", "UnderscoreEscapingWithoutSuffixes", "NoUTF8EscapingWithSuffixes", "NoTranslation"
    ] = Field("", description="How OTLP names become Prometheus names; takes precedence over add_metric_suffixes.")
    scraped_metric_suffixes: bool = Field(
        False,
        description="Append unit and type to names of scraped metrics, too, where add_metric_suffixes or translation_strategy "
        "says so: a counter b becomes b_total, as upstream writes it. false: scraped metrics keep the names of their pages, "
        "as Prometheus writes them and dashboards select them. Set it where another collector sends names that "
        "trim_metric_suffixes of its receiver has shortened.",
    )
    send_metadata: bool = Field(False, description="Send type, help and unit of each metric, once a minute.")
    protobuf_message: Literal["prometheus.WriteRequest"] = Field(
        "prometheus.WriteRequest", description="Accepted for compatibility; remote write 1.0 is always sent."
    )
    include_metadata_keys: list[str] = Field([], description="Headers of the incoming request to send along.")
    convert_explicit_histograms_to_nhcb: bool = Field(
        False, description="Write explicit histograms as native ones with custom buckets."
    )
    keep_classic_histograms: bool = Field(False, description="Write the classic series of these as well.")
    wal: WalOptions | None = Field(
        None, description="Keep the sending queue on disk, in a directory; with a storage extension: sending_queue.storage."
    )
    export_created_metric: CreatedMetricOptions | None = Field(
        None, description="Accepted for compatibility; remote write 1.0 has no created time."
    )

    @field_validator("protobuf_message", mode="before")
    @classmethod
    def _version_1(cls, value: object) -> object:
        if value == "io.prometheus.write.v2.Request":
            raise ValueError("remote write 2.0 is not supported; use prometheus.WriteRequest")
        return value

    @field_validator("translation_strategy")
    @classmethod
    def _escaped(cls, value: str) -> str:
        if value.startswith("No"):
            raise ValueError(
                f"{value} needs remote write 2.0; use UnderscoreEscapingWithSuffixes or UnderscoreEscapingWithoutSuffixes"
            )
        return value

    @field_validator("external_labels")
    @classmethod
    def _no_empty_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if not text or not label_name(key):
                raise ValueError(f"label {key!r} has an empty name or value; remove it or give it one")
        return value

    @field_validator("include_metadata_keys")
    @classmethod
    def _not_reserved(cls, value: list[str]) -> list[str]:
        for key in value:
            if key.lower() in RESERVED_HEADERS:
                raise ValueError(f"{key!r} is a header of the protocol itself; remove it")
        return value

    @model_validator(mode="after")
    def _check(self) -> Config:
        if not self.client.endpoint:
            raise ValueError(
                "endpoint is missing; name the URL to write to, such as http://host:8480/insert/0/prometheus/api/v1/write"
            )
        if self.wal is not None and (not self.queue_wanted or (self.sending_queue is not None and self.sending_queue.storage)):
            raise ValueError("wal is the sending queue on disk; it cannot be used with sending_queue.storage or without a queue")
        if self.resource_constant_labels.enabled or self.resource_constant_labels.exclude_service_attributes:
            raise ValueError(
                "resource_constant_labels has only included and excluded; enabled is an option of resource_to_telemetry_conversion"
            )
        if not self.resource_constant_labels.empty and not self.resource_to_telemetry_conversion.empty:
            raise ValueError(
                "resource_to_telemetry_conversion and resource_constant_labels cannot be used together; keep the latter"
            )
        return self

    @property
    def queue_wanted(self) -> bool:
        """Whether there is a queue."""
        return self.remote_write_queue.enabled if self.sending_queue is None else self.sending_queue.enabled

    @property
    def queue(self) -> QueueBlock:
        """The queue in force. One consumer, so that requests keep their order; without a queue a caller waits for its turn."""
        own, old = self.sending_queue, self.remote_write_queue
        if own is None:
            own = QueueBlock(queue_size=old.queue_size or 1, enabled=old.enabled)
        if own.enabled:
            return own.model_copy(update={"num_consumers": 1})
        return QueueBlock(num_consumers=1, queue_size=1, block_on_overflow=True)

    @property
    def client(self) -> RemoteWriteHttpBlock:
        """The client options in force."""
        return self.http or self

    @property
    def suffixes(self) -> bool:
        """Whether names get unit and type."""
        if self.translation_strategy:
            return self.translation_strategy == "UnderscoreEscapingWithSuffixes"
        return self.add_metric_suffixes
