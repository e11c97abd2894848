"""The sections of a configuration that are not components (`service` and everything below it), and the result of loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from kofagent.config.address import split_endpoint
from kofagent.config.base import ByteSize, ComponentConfig, Duration, Secret, UrlError, check_url
from kofagent.config.errors import ConfigErrors, Path, Problem
from kofagent.config.merge import Deleted
from kofagent.config.tree import Node

SECTIONS = ("receivers", "processors", "exporters", "connectors", "extensions")
SIGNALS = ("logs", "metrics", "traces")
PROFILES = "profiles"
"""A signal of the collector's that is not known here: its pipelines are left out."""


class PipelineConfig(ComponentConfig):
    """`service.pipelines.<signal>[/<name>]`."""

    receivers: list[str] = Field([], description="Receivers (or connectors) of the pipeline.")
    processors: list[str] = Field([], description="Processors, in order.")
    exporters: list[str] = Field([], description="Exporters (or connectors), which all get the data.")


class LogSampling(ComponentConfig):
    """`service.telemetry.logs.sampling`: limits repeated messages."""

    enabled: bool = Field(True, description="Sample repeated messages.")
    tick: Duration = Field(10.0, description="Interval of the limits below.")
    initial: int = Field(10, ge=0, description="Number of messages with the same text that are written in each interval.")
    thereafter: int = Field(100, ge=0, description="After that, every n-th is written; 0: none.")


class TelemetryLogs(ComponentConfig):
    """`service.telemetry.logs`: kofagent's own log."""

    level: Literal[
        "debug", "info", "warn", "error", "dpanic", "panic", "fatal", "DEBUG", "INFO", "WARN", "ERROR", "DPANIC", "PANIC", "FATAL"
    ] = Field("info", description="Lowest level that is written.")
    development: bool = Field(False, description="Also write the place in the code.")
    encoding: Literal["console", "json"] = Field("console", description="Format of a line.")
    disable_caller: bool = Field(False, description="Leave out the place in the code.")
    disable_stacktrace: bool = Field(False, description="Leave out tracebacks.")
    sampling: LogSampling | None = Field(LogSampling(), description="Sampling of repeated messages.")
    output_paths: list[str] = Field(["stderr"], description="Files, stderr or stdout.")
    error_output_paths: list[str] = Field(
        ["stderr"], description="Where errors of writing the log go: files, or stderr and stdout."
    )
    initial_fields: dict[str, Any] = Field({}, description="Fields added to every line.")
    processors: list[Any] = Field([], description="Accepted for compatibility; the own log is written, not exported.")


class ConstantLabels(ComponentConfig):
    """`with_resource_constant_labels`: resource attributes that become labels of all own metrics."""

    included: list[str] = Field([], description="Attributes to include; `*` is a wildcard.")
    excluded: list[str] = Field([], description="Attributes to exclude.")


class PrometheusReader(ComponentConfig):
    """`prometheus`: the page with own metrics."""

    host: str = Field("localhost", description="Address to listen on.")
    port: int = Field(8888, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    without_scope_info: bool | None = Field(None, description="Accepted for compatibility; there are no scope labels.")
    without_type_suffix: bool | None = Field(None, description="Leave out `_total` at the end of the names of counters.")
    without_units: bool | None = Field(None, description="Accepted for compatibility; the names always have their units.")
    without_target_info: bool | None = Field(None, description="Leave out the metric target_info.")
    with_resource_constant_labels: ConstantLabels | None = Field(None, description="Resource attributes as labels.")
    translation_strategy: str | None = Field(
        None,
        description="Accepted for compatibility.",
        validation_alias=AliasChoices("translation_strategy", "translation_strategy/development"),
    )


class PullExporter(ComponentConfig):
    """`pull.exporter`."""

    prometheus: PrometheusReader | None = Field(
        None, description="Prometheus page.", validation_alias=AliasChoices("prometheus", "prometheus/development")
    )


class PullReader(ComponentConfig):
    """`pull`: own metrics that are scraped."""

    exporter: PullExporter = Field(description="Exporter of the page.")
    producers: list[Any] = Field([], description="Accepted for compatibility.")
    cardinality_limits: dict[str, Any] = Field({}, description="Accepted for compatibility.")


class NameValue(ComponentConfig):
    """An entry of `headers`."""

    name: str = Field(description="Name of the header.")
    value: Secret | None = Field(None, description="Value of the header.")


class OtlpReader(ComponentConfig):
    """`otlp`: own metrics pushed."""

    protocol: Literal["http/protobuf", "grpc", "grpc/protobuf"] = Field("http/protobuf", description="Protocol.")
    endpoint: str = Field("", description="URL; HTTP without a path gets /v1/metrics.")
    headers: list[NameValue] | dict[str, Secret] = Field([], description="Headers of every request.")
    headers_list: Secret | None = Field(None, description="Headers as `a=b,c=d`; `headers` takes precedence.")
    compression: Literal["gzip", "none"] | None = Field(None, description="Compression of the body.")
    timeout: int = Field(10000, ge=0, description="Time for one request, milliseconds.")
    temporality_preference: Literal["cumulative", "delta", "lowmemory", "low_memory"] = Field(
        "cumulative", description="Accepted for compatibility; sums are always cumulative."
    )
    default_histogram_aggregation: str | None = Field(None, description="Accepted for compatibility.")
    insecure: bool | None = Field(None, description="gRPC without TLS.")
    certificate: str | None = Field(
        None, description="PEM file of the trusted CAs.", validation_alias=AliasChoices("certificate", "certificate_file")
    )
    client_certificate: str | None = Field(
        None,
        description="PEM file of the client certificate.",
        validation_alias=AliasChoices("client_certificate", "client_certificate_file"),
    )
    client_key: str | None = Field(
        None, description="PEM file of the client key.", validation_alias=AliasChoices("client_key", "client_key_file")
    )
    tls: dict[str, Any] | None = Field(None, description="TLS options, in the newest form.")

    def all_headers(self) -> dict[str, Secret]:
        """The headers of both options; `headers` takes precedence over `headers_list`."""
        out: dict[str, Secret] = {}
        if self.headers_list is not None:
            for pair in self.headers_list.get_secret_value().split(","):
                name, _, value = pair.partition("=")
                if name.strip():
                    out[name.strip()] = Secret(value.strip())
        if isinstance(self.headers, dict):
            out.update(self.headers)
        else:
            out.update({header.name: header.value or Secret("") for header in self.headers})
        return out

    @model_validator(mode="after")
    def _a_pair(self) -> OtlpReader:
        tls = self.tls or {}
        if bool(self.client_certificate or tls.get("cert_file")) != bool(self.client_key or tls.get("key_file")):
            raise ValueError("client_certificate and client_key must be set together; one of them is missing")
        return self

    @model_validator(mode="after")
    def _has_a_host(self) -> OtlpReader:
        if self.protocol == "http/protobuf":
            try:
                check_url(self.endpoint)
            except UrlError as error:
                raise ConfigErrors([Problem(("endpoint",), f"the URL {error.what}", error.hint)]) from None
        return self


class PeriodicExporter(ComponentConfig):
    """`periodic.exporter`."""

    otlp: OtlpReader | None = Field(None, description="OTLP.", validation_alias=AliasChoices("otlp", "otlp_http", "otlp_grpc"))
    console: dict[str, Any] | None = Field(None, description="Write to standard output.")


class PeriodicReader(ComponentConfig):
    """`periodic`: own metrics sent every interval."""

    interval: int = Field(60000, ge=0, description="Interval in milliseconds.")
    timeout: int = Field(30000, ge=0, description="Timeout in milliseconds.")
    exporter: PeriodicExporter = Field(description="Exporter of the metrics.")
    producers: list[Any] = Field([], description="Accepted for compatibility.")
    cardinality_limits: dict[str, Any] = Field({}, description="Accepted for compatibility.")


class MetricReader(ComponentConfig):
    """An entry of `service.telemetry.metrics.readers`."""

    pull: PullReader | None = Field(None, description="Metrics that are scraped.")
    periodic: PeriodicReader | None = Field(None, description="Metrics that are pushed.")


class TelemetryMetrics(ComponentConfig):
    """`service.telemetry.metrics`: kofagent's own metrics."""

    level: Literal["none", "basic", "normal", "detailed", "None", "Basic", "Normal", "Detailed"] = Field(
        "normal", description="none turns them off."
    )
    address: str | None = Field(None, description="Old way to set the address of the Prometheus endpoint, host:port.")
    readers: list[MetricReader] | None = Field(
        None, description="Metric readers; default: a Prometheus endpoint on localhost:8888."
    )
    views: list[Any] | None = Field(None, description="Accepted for compatibility.")

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        if address:
            split_endpoint(address)
        return address


class TelemetryTraces(ComponentConfig):
    """`service.telemetry.traces`: accepted for compatibility; kofagent writes no spans about itself."""

    level: str = Field("basic", description="Accepted for compatibility.")
    propagators: list[str] = Field([], description="Accepted for compatibility.")
    processors: list[Any] = Field([], description="Accepted for compatibility.")
    sampler: Any = Field(None, description="Accepted for compatibility.")


class TelemetryConfig(ComponentConfig):
    """`service.telemetry`: kofagent's own telemetry."""

    logs: TelemetryLogs = Field(TelemetryLogs(), description="Own log.")
    metrics: TelemetryMetrics = Field(TelemetryMetrics(), description="Own metrics.")
    traces: TelemetryTraces = Field(TelemetryTraces(), description="Own spans.")
    resource: dict[str, Any] = Field({}, description="Resource attributes of the own telemetry; null removes one.")


class MemoryConfig(ComponentConfig):
    """`service.memory`: what gives way when memory is short; kofagent's own, the Go collector does not have it."""

    guard: bool = Field(
        True, description="Give way in order when memory gets short; false leaves it to `memory_limiter` and the kernel."
    )
    limit: ByteSize = Field(0, ge=0, description="Memory to stay within; 0: the limit of the cgroup, none without one.")


class ServiceConfig(ComponentConfig):
    """`service`: extensions, pipelines and own telemetry."""

    extensions: list[str] = Field([], description="Extensions to start, in order.")
    pipelines: dict[str, PipelineConfig] = Field({}, description="Pipelines by name, `signal` or `signal/name`.")
    telemetry: TelemetryConfig = Field(TelemetryConfig(), description="Own log, metrics and resource.")
    memory: MemoryConfig = Field(MemoryConfig(), description="What gives way when memory is short; an option of kofagent's own.")


@dataclass
class LoadedConfig:
    """A valid configuration: what the graph is built from, and where every value came from."""

    components: dict[str, dict[str, ComponentConfig]] = field(repr=False)
    """Validated options by section (`receivers`, ...) and id (`otlphttp/logs`)."""
    service: ServiceConfig
    root: Node = field(repr=False)
    """The effective configuration before references were resolved: safe to print."""
    warnings: list[Problem] = field(default_factory=list)
    deleted: list[Deleted] = field(default_factory=list)
    keep_retrying: bool = False
    """KOF's own pipelines: a `max_elapsed_time` that is not set means no limit."""
    name: str = ""
    """Name of the workload that upstream renders; empty for a collector configuration."""
    mode: str = ""
    prefix: Path = ()
    """The path of this configuration in the user's values: `collectors.node`."""
    written: Sequence[tuple[Node, Path]] = ()
    """Where parts of it stand in the user's files, if there are several such places: a tree, and the path of the part in it."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """`collectors.<role>.env`, resolved: variables that `Service` sets while it runs."""

    @property
    def pipelines(self) -> dict[str, PipelineConfig]:
        """`service.pipelines` by name."""
        return self.service.pipelines

    @property
    def extensions(self) -> list[str]:
        """`service.extensions`, in the order in which they start."""
        return self.service.extensions

    @property
    def telemetry(self) -> TelemetryConfig:
        """`service.telemetry`."""
        return self.service.telemetry

    @property
    def effective(self) -> Any:
        """The configuration as plain data, references as they were written."""
        return self.root.plain()

    def placed(self, problem: Problem) -> Problem:
        """A problem found later (a port in use, a signal that a component lacks), at the line of the value at its path."""
        return as_written(
            replace(problem, place=self.root.nearest(problem.path).origin.place), self.root, self.prefix, self.written
        )


def as_written(problem: Problem, root: Node, prefix: Path, written: Sequence[tuple[Node, Path]] = ()) -> Problem:
    """A problem with the path as it stands in the user's file, `collectors.node` and all, when a user wrote the value."""
    origin = root.nearest(problem.path).origin
    for tree, at in written:
        part = tree.get(*at)
        if part is not None and origin.line and part.nearest(problem.path).origin == origin:
            return problem.under(at)
    if prefix and problem.path[:1] != prefix[:1] and root.nearest(problem.path).origin.layer == "user":
        return problem.under(prefix)
    return problem
