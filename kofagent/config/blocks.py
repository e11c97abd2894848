"""Option blocks that several components share, in upstream's spelling and with upstream's defaults.

configtls, confighttp, configgrpc, configauth, configretry and exporterhelper of the OpenTelemetry Collector.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from kofagent.config.base import ByteSize, ComponentConfig, Duration, ExtensionId, Secret, Url

Compression = Literal["gzip", "zstd", "deflate", "zlib", "snappy", "x-snappy-framed", "lz4", "none", ""]


TlsVersion = Literal["1.0", "1.1", "1.2", "1.3", ""]


class AuthBlock(ComponentConfig):
    """`auth`: the extension that signs or checks requests."""

    authenticator: ExtensionId = Field(description="Name of the authenticator extension, as in service.extensions.")


class TlsBlock(ComponentConfig):
    """What client and server TLS share."""

    ca_file: str = Field("", description="PEM file of the CAs that are trusted; empty: the system's.")
    ca_pem: Secret | None = Field(None, description="The same as text.")
    cert_file: str = Field("", description="PEM file of the own certificate.")
    cert_pem: Secret | None = Field(None, description="The same as text.")
    key_file: str = Field("", description="PEM file of the own key.")
    key_pem: Secret | None = Field(None, description="The same as text.")
    min_version: TlsVersion = Field("1.2", description="Lowest TLS version.")
    max_version: TlsVersion = Field("", description="Highest TLS version; empty: the newest.")
    cipher_suites: list[str] = Field([], description="Cipher suites by name; empty: the safe defaults.")
    include_system_ca_certs_pool: bool = Field(False, description="Trust the system's CAs beside ca_file.")
    reload_interval: Duration = Field(0.0, description="How often the files are read again; 0: once.")
    curve_preferences: list[str] = Field([], description="Accepted for compatibility; the TLS library chooses.")


class TlsClientBlock(TlsBlock):
    """`tls` of a client."""

    insecure: bool = Field(False, description="No TLS at all (gRPC, or an endpoint without a scheme).")
    insecure_skip_verify: bool = Field(False, description="TLS without checking the server's certificate.")
    server_name_override: str = Field(
        "",
        description="Name expected in the server's certificate.",
        validation_alias=AliasChoices("server_name_override", "server_name"),
    )


class TlsServerBlock(TlsBlock):
    """`tls` of a server."""

    client_ca_file: str = Field("", description="PEM file of the CAs of client certificates; set: a client must have one.")
    client_ca_file_reload: bool = Field(False, description="Read client_ca_file again when it changes.")


class HttpClientBlock(ComponentConfig):
    """confighttp client options, inherited by HTTP exporters."""

    endpoint: Url = Field("", description="URL of the server, with scheme.")
    proxy_url: str = Field("", description="URL of a proxy; empty: HTTP_PROXY, HTTPS_PROXY and NO_PROXY are obeyed.")
    tls: TlsClientBlock = Field(TlsClientBlock(), description="TLS options.")
    read_buffer_size: ByteSize = Field(0, description="Accepted for compatibility; buffers size themselves.")
    write_buffer_size: ByteSize = Field(512 * 1024, description="Accepted for compatibility; buffers size themselves.")
    timeout: Duration = Field(30.0, description="Time for one request; 0: none.")
    headers: dict[str, Secret] = Field({}, description="Headers of every request.")
    auth: AuthBlock | None = Field(None, description="Authenticator extension.")
    compression: Compression = Field("gzip", description="Compression of the body.")
    compression_params: dict[str, int] = Field({}, description="level: of the compression.")
    max_idle_conns: int = Field(100, description="Idle connections kept.")
    max_idle_conns_per_host: int = Field(0, description="Idle connections kept per host; 0: no limit of its own.")
    max_conns_per_host: int = Field(0, description="Connections per host; 0: no limit.")
    idle_conn_timeout: Duration = Field(90.0, description="How long an idle connection is kept.")
    disable_keep_alives: bool = Field(False, description="One connection per request.")
    http2_read_idle_timeout: Duration = Field(0.0, description="Accepted for compatibility; requests are HTTP/1.1.")
    http2_ping_timeout: Duration = Field(0.0, description="Accepted for compatibility; requests are HTTP/1.1.")
    force_attempt_http2: bool = Field(True, description="Accepted for compatibility; requests are HTTP/1.1.")
    cookies: dict[str, bool] = Field({}, description="enabled: keep the server's cookies.")
    middlewares: list[dict[str, str]] = Field([], description="Accepted when empty.", max_length=0)


class CorsBlock(ComponentConfig):
    """`cors` of an HTTP server."""

    allowed_origins: list[str] = Field([], description="Origins that may send; `*` and `https://*.example.com` match.")
    allowed_headers: list[str] = Field([], description="Headers a browser may send beside the safe ones.")
    exposed_headers: list[str] = Field([], description="Answer headers a page may read.")
    max_age: int = Field(0, description="Seconds a browser may remember the answer; 0: its default.")


class HttpServerBlock(ComponentConfig):
    """confighttp server options."""

    endpoint: str = Field("", description="host:port to listen on; port 0 takes a free one.")
    transport: Literal["tcp", "tcp4", "tcp6", "unix", ""] = Field("tcp", description="Kind of socket.")
    tls: TlsServerBlock | None = Field(None, description="TLS options; absent: plain text.")
    cors: CorsBlock | None = Field(None, description="Cross-origin requests of browsers.")
    auth: AuthBlock | None = Field(None, description="Authenticator extension.")
    max_request_body_size: ByteSize = Field(20 * 1024 * 1024, description="Largest body after decompression.")
    include_metadata: bool = Field(False, description="Keep the request's headers with the data.")
    response_headers: dict[str, Secret] = Field({}, description="Headers of every answer.")
    compression_algorithms: list[Literal["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed"]] | None = Field(
        None, description="Compressions that are accepted; absent: all."
    )
    read_timeout: Duration = Field(0.0, description="Time to read a whole request; 0: none.")
    read_header_timeout: Duration = Field(60.0, description="Time to read a request's headers.")
    write_timeout: Duration = Field(30.0, description="Time to write an answer.")
    idle_timeout: Duration = Field(60.0, description="How long an idle connection is kept.")
    keep_alives_enabled: bool = Field(True, description="Several requests per connection.")
    middlewares: list[dict[str, str]] = Field([], description="Accepted when empty.", max_length=0)


class KeepaliveClientBlock(ComponentConfig):
    """`keepalive` of a gRPC client."""

    time: Duration = Field(10.0, description="Ping after this much silence.")
    timeout: Duration = Field(10.0, description="Close when the ping is not answered in this time.")
    permit_without_stream: bool = Field(False, description="Ping also while no call is open.")


class GrpcClientBlock(ComponentConfig):
    """configgrpc client options."""

    endpoint: str = Field("", description="host:port, or with scheme http:// (plain text), https:// or dns:///.")
    compression: Literal["gzip", "none", ""] = Field("gzip", description="Compression of messages.")
    tls: TlsClientBlock = Field(TlsClientBlock(), description="TLS options.")
    keepalive: KeepaliveClientBlock | None = Field(None, description="Pings.")
    read_buffer_size: ByteSize = Field(32 * 1024, description="Accepted for compatibility.")
    write_buffer_size: ByteSize = Field(512 * 1024, description="Accepted for compatibility.")
    wait_for_ready: bool = Field(False, description="Wait for a connection instead of failing at once.")
    headers: dict[str, Secret] = Field({}, description="Metadata of every call.")
    balancer_name: str = Field("round_robin", description="Load balancing over the addresses of a dns:/// endpoint.")
    authority: str = Field("", description="The :authority header.")
    auth: AuthBlock | None = Field(None, description="Authenticator extension.")
    middlewares: list[dict[str, str]] = Field([], description="Accepted when empty.", max_length=0)


class KeepaliveServerParameters(ComponentConfig):
    """`keepalive.server_parameters` of a gRPC server."""

    max_connection_idle: Duration = Field(0.0, description="Close a connection without calls after this; 0: never.")
    max_connection_age: Duration = Field(0.0, description="Close a connection after this; 0: never.")
    max_connection_age_grace: Duration = Field(0.0, description="Time for open calls after max_connection_age; 0: any.")
    time: Duration = Field(7200.0, description="Ping after this much silence.")
    timeout: Duration = Field(20.0, description="Close when the ping is not answered in this time.")


class KeepaliveEnforcementPolicy(ComponentConfig):
    """`keepalive.enforcement_policy` of a gRPC server."""

    min_time: Duration = Field(300.0, description="A client that pings more often is closed.")
    permit_without_stream: bool = Field(False, description="Allow pings without an open call.")


class KeepaliveServerBlock(ComponentConfig):
    """`keepalive` of a gRPC server."""

    server_parameters: KeepaliveServerParameters | None = Field(None, description="Own pings and limits.")
    enforcement_policy: KeepaliveEnforcementPolicy | None = Field(None, description="What clients may do.")


class GrpcServerBlock(ComponentConfig):
    """configgrpc server options."""

    endpoint: str = Field("", description="host:port to listen on; port 0 takes a free one.")
    transport: Literal["tcp", "tcp4", "tcp6", "unix", ""] = Field("tcp", description="Kind of socket.")
    tls: TlsServerBlock | None = Field(None, description="TLS options; absent: plain text.")
    max_recv_msg_size_mib: int = Field(4, description="Largest message after decompression, MiB; 0: the default.")
    max_concurrent_streams: int = Field(0, description="Open calls per connection; 0: no limit.")
    read_buffer_size: ByteSize = Field(512 * 1024, description="Accepted for compatibility.")
    write_buffer_size: ByteSize = Field(0, description="Accepted for compatibility.")
    keepalive: KeepaliveServerBlock | None = Field(None, description="Pings and ages.")
    auth: AuthBlock | None = Field(None, description="Authenticator extension.")
    include_metadata: bool = Field(False, description="Keep the call's metadata with the data.")
    middlewares: list[dict[str, str]] = Field([], description="Accepted when empty.", max_length=0)


class RetryBlock(ComponentConfig):
    """`retry_on_failure`: exponential backoff with jitter."""

    enabled: bool = Field(True, description="Retry failures that may be temporary.")
    initial_interval: Duration = Field(5.0, description="First wait.")
    randomization_factor: float = Field(0.5, ge=0, le=1, description="Jitter: a wait w becomes w*(1-f) to w*(1+f).")
    multiplier: float = Field(1.5, ge=1, description="Each wait is this many times the one before.")
    max_interval: Duration = Field(30.0, description="Longest wait.")
    max_elapsed_time: Duration = Field(300.0, description="Give up after this long; 0: never.")


class PartitionBlock(ComponentConfig):
    """`sending_queue.batch.partition`."""

    metadata_keys: list[str] = Field(
        [], description="Names of request headers; data with different values is never in the same batch."
    )

    @field_validator("metadata_keys")
    @classmethod
    def _once(cls, keys: list[str]) -> list[str]:
        lowered = [key.lower() for key in keys]
        twice = {key for key in lowered if lowered.count(key) > 1}
        if twice:
            raise ValueError(f"metadata_keys names {', '.join(sorted(twice))} more than once")
        return lowered


class QueueBatchBlock(ComponentConfig):
    """`sending_queue.batch`: queued batches are joined, and split where they are too large."""

    flush_timeout: Duration = Field(
        0.2,
        gt=0,
        description="Longest wait for more data. With a queue in memory, whose callers wait for an answer, a batch is also sent "
        "when nothing new has arrived for a twentieth of this time.",
    )
    min_size: int = Field(8192, ge=0, description="Send as soon as this much data is queued.")
    max_size: int = Field(0, ge=0, description="Largest batch; larger ones are split; 0: no limit.")
    sizer: Literal["items", "bytes"] = Field(
        "items", description="Unit of min_size and max_size; default: the sizer of the queue if it is set, otherwise items."
    )
    partition: PartitionBlock = Field(PartitionBlock(), description="Which data is kept apart.")

    @model_validator(mode="after")
    def _sizes(self) -> QueueBatchBlock:
        if self.max_size and self.max_size < self.min_size:
            raise ValueError(f"max_size ({self.max_size}) is less than min_size ({self.min_size}); lower min_size as well")
        return self


class QueueBlock(ComponentConfig):
    """`sending_queue` of an exporter."""

    enabled: bool = Field(True, description="Queue batches while others are being sent.")
    num_consumers: int = Field(10, ge=1, description="Batches sent at the same time.")
    queue_size: int = Field(
        1000, ge=1, description="Largest amount of queued data, including what is being sent; in units of sizer."
    )
    sizer: Literal["requests", "items", "bytes"] = Field("requests", description="Unit of queue_size: batches, items or bytes.")
    wait_for_result: bool = Field(
        False,
        description="Accepted for compatibility; the answer always waits for the backend when the queue is in memory, and never "
        "when it is in a storage extension.",
    )
    block_on_overflow: bool = Field(False, description="Block until there is room instead of refusing data.")
    blocking: bool = Field(False, description="Old name of block_on_overflow.")
    storage: ExtensionId | None = Field(
        None, description="Storage extension that holds the queue; data is accepted once it is on disk, and survives a restart."
    )
    batch: QueueBatchBlock | None = Field(
        None, description="Join and split batches in the queue; takes the place of the batch processor."
    )

    @model_validator(mode="before")
    @classmethod
    def _unit_of_the_batch(cls, value: Any) -> Any:
        """A batch without a unit has the queue's, as upstream."""
        batch = value.get("batch") if isinstance(value, dict) else None
        if isinstance(batch, dict) and "sizer" in value and "sizer" not in batch:
            return {**value, "batch": {**batch, "sizer": value["sizer"]}}
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> QueueBlock:
        self.block_on_overflow = self.block_on_overflow or self.blocking
        if self.enabled and self.storage and self.wait_for_result:
            raise ValueError("wait_for_result cannot be used with storage, where data is accepted once it is on disk; remove one")
        if self.enabled and self.batch is not None and self.batch.sizer == self.sizer and self.batch.min_size > self.queue_size:
            raise ValueError(
                f"batch.min_size ({self.batch.min_size}) is more than queue_size ({self.queue_size}), which it cannot reach"
            )
        return self
