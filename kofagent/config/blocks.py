"""Option blocks that several components share, in upstream's spelling and with upstream's defaults.

configtls, confighttp, configgrpc, configauth, configretry and exporterhelper of the OpenTelemetry Collector.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from kofagent.config.address import is_plain_grpc, split_endpoint
from kofagent.config.base import ByteSize, ClientAuthId, ComponentConfig, Duration, QueueStorageId, Secret, ServerAuthId, Url
from kofagent.config.cipher_suites import check_suites
from kofagent.config.errors import ConfigErrors, Problem

Compression = Literal["gzip", "zstd", "deflate", "zlib", "snappy", "x-snappy-framed", "lz4", "none", ""]


TlsVersion = Literal["1.0", "1.1", "1.2", "1.3", ""]


class AuthBlock(ComponentConfig):
    """`auth` of a client: the extension that signs requests."""

    authenticator: ClientAuthId = Field(description="Name of the authenticator extension, as in service.extensions.")


class ServerAuthBlock(ComponentConfig):
    """`auth` of a server: the extension that checks requests."""

    authenticator: ServerAuthId = Field(description="Name of the authenticator extension, as in service.extensions.")


class TpmBlock(ComponentConfig):
    """`tpm` of TLS: keys in a trusted platform module."""

    idle_unless_enabled = False  # nobody can turn it on

    enabled: bool = Field(False, description="Accepted only when false: keys in a TPM are not supported; name their files.")
    path: str = Field("", description="Accepted for compatibility.")
    owner_auth: Secret = Field(Secret(""), description="Accepted for compatibility.")
    auth: Secret = Field(Secret(""), description="Accepted for compatibility.")

    @field_validator("enabled", mode="after")
    @classmethod
    def _off(cls, value: bool) -> bool:
        if value:
            raise ValueError("keys in a TPM are not supported; name files with cert_file and key_file")
        return value


class TlsBlock(ComponentConfig):
    """TLS options that clients and servers have in common."""

    ca_file: str = Field("", description="PEM file with the trusted CAs; empty: the CAs of the system.")
    ca_pem: Secret | None = Field(None, description="The trusted CAs as PEM text.")
    cert_file: str = Field("", description="PEM file with the certificate to present.")
    cert_pem: Secret | None = Field(None, description="The certificate as PEM text.")
    key_file: str = Field("", description="PEM file with the private key of the certificate.")
    key_pem: Secret | None = Field(None, description="The private key as PEM text.")
    min_version: TlsVersion = Field("1.2", description="Lowest TLS version.")
    max_version: TlsVersion = Field("", description="Highest TLS version; empty: the newest.")
    cipher_suites: list[str] = Field([], description="TLS 1.2 cipher suites by name; empty: safe defaults.")
    include_system_ca_certs_pool: bool = Field(False, description="Trust the CAs of the system in addition to ca_file.")
    reload_interval: Duration = Field(0.0, description="How often the files are checked for changes; 0: they are read once.")
    curve_preferences: list[str] = Field([], description="Accepted for compatibility; the TLS library chooses.")
    tpm: TpmBlock = Field(TpmBlock(), description="Accepted only when off: keys in a trusted platform module are not supported.")

    @field_validator("cipher_suites")
    @classmethod
    def _known_suites(cls, value: list[str]) -> list[str]:
        check_suites(value)
        return value

    @model_validator(mode="after")
    def _some_version(self) -> Self:
        if self.max_version and self.max_version < (self.min_version or "1.2"):
            raise ValueError("min_version (default: 1.2) is higher than max_version, so no connection would be possible")
        return self

    @model_validator(mode="after")
    def _a_pair(self) -> Self:
        if bool(self.cert_file or self.cert_pem) != bool(self.key_file or self.key_pem):
            raise ValueError("cert_file and key_file must be set together; one of them is missing")
        return self


class TlsClientBlock(TlsBlock):
    """`tls` of a client."""

    insecure: bool = Field(False, description="Use no TLS (gRPC endpoints without the scheme https).")
    insecure_skip_verify: bool = Field(False, description="Do not verify the certificate of the server.")
    server_name_override: str = Field(
        "",
        description="Name to expect in the certificate of the server.",
        validation_alias=AliasChoices("server_name_override", "server_name"),
    )


class TlsServerBlock(TlsBlock):
    """`tls` of a server."""

    client_ca_file: str = Field("", description="PEM file with the CAs of client certificates; when set, clients must present one.")
    client_ca_file_reload: bool = Field(False, description="Read client_ca_file again when it changes (checked every second).")

    @model_validator(mode="after")
    def _has_a_certificate(self) -> Self:
        if not (self.cert_file or self.cert_pem):
            raise ValueError("a server needs cert_file and key_file (or cert_pem and key_pem)")
        return self


_CONTROL = frozenset(chr(n) for n in (*range(9), *range(10, 32), 127))


class HttpClientBlock(ComponentConfig):
    """confighttp client options, inherited by HTTP exporters."""

    endpoint: Url = Field("", description="URL of the server, with scheme.")
    proxy_url: str = Field("", description="URL of an HTTP proxy; empty: HTTP_PROXY, HTTPS_PROXY and NO_PROXY decide.")
    tls: TlsClientBlock = Field(TlsClientBlock(), description="TLS options.")
    read_buffer_size: ByteSize = Field(0, description="Accepted for compatibility; buffers size themselves.")
    write_buffer_size: ByteSize = Field(512 * 1024, description="Accepted for compatibility; buffers size themselves.")
    timeout: Duration = Field(30.0, description="Time limit of one request; 0: no limit.")
    headers: dict[str, Secret] = Field({}, description="Headers to add to every request.")
    auth: AuthBlock | None = Field(None, description="Authenticator extension.")
    compression: Compression = Field("gzip", description="Compression of the body.")
    compression_params: dict[str, int] = Field({}, description="level: the compression level.")
    max_idle_conns: int = Field(100, description="Idle connections to keep; 0: no limit.")
    max_idle_conns_per_host: int = Field(0, description="Idle connections to keep per host; 0: only max_idle_conns limits them.")
    max_conns_per_host: int = Field(0, description="Connections per host, idle ones included; 0: no limit.")
    idle_conn_timeout: Duration = Field(90.0, description="Time after which an idle connection is closed; 0: never.")
    disable_keep_alives: bool = Field(False, description="Use a new connection for every request.")
    http2_read_idle_timeout: Duration = Field(0.0, description="Accepted for compatibility; requests are HTTP/1.1.")
    http2_ping_timeout: Duration = Field(0.0, description="Accepted for compatibility; requests are HTTP/1.1.")
    force_attempt_http2: bool = Field(True, description="Accepted for compatibility; requests are HTTP/1.1.")
    cookies: dict[str, bool] = Field({}, description="enabled: store the cookies of the server and send them back.")
    middlewares: list[dict[str, str]] = Field([], description="Accepted when empty.", max_length=0)

    @field_validator("headers")
    @classmethod
    def _can_be_sent(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        """The end of a line, as at the end of a file with a token, would end the header."""
        for name, secret in value.items():
            if not _CONTROL.isdisjoint(name + secret.get_secret_value()):
                raise ValueError(f"the header {name!r} has a control character, such as the end of a line, and cannot be sent")
        return value

    def notices(self) -> Iterable[Problem]:
        """TLS options that the scheme of the endpoint leaves without effect: users of gRPC write `insecure: true` everywhere."""
        if self.endpoint.startswith("https://") and self.tls.insecure:
            hint = "remove it; insecure_skip_verify: true does not verify the certificate"
            yield Problem(("tls", "insecure"), "has no effect with an endpoint that begins with https://", hint, warning=True)
        if self.endpoint.startswith("http://"):
            for name in ("ca_file", "cert_file", "insecure_skip_verify"):
                if getattr(self.tls, name):
                    hint = "write https:// if the server has TLS"
                    yield Problem(("tls", name), "has no effect with an endpoint that begins with http://", hint, warning=True)


class CorsBlock(ComponentConfig):
    """`cors` of an HTTP server."""

    allowed_origins: list[str] = Field(
        [], description="Origins that may send requests; `*` is a wildcard, as in `https://*.example.com`."
    )
    allowed_headers: list[str] = Field([], description="Headers that a browser may send in addition to the safe ones; `*`: all.")
    exposed_headers: list[str] = Field([], description="Response headers that a page may read.")
    max_age: int = Field(0, description="Seconds for which a browser may cache the answer; 0: the default of the browser.")


class HttpServerAuthBlock(ServerAuthBlock):
    """`auth` of an HTTP server."""

    request_params: list[str] = Field([], description="Accepted for compatibility; the authenticators here read headers only.")


class ListenBlock(ComponentConfig):
    """What is listened to: `endpoint` is an address, or with `transport: unix` a path."""

    network: ClassVar[str] = "tcp"
    joins: ClassVar[frozenset[str] | None] = None
    """Whether equal ones of several collectors of a process are one server: the options in which they may differ; None: never."""

    @field_validator("endpoint", check_fields=False)
    @classmethod
    def _an_address(cls, value: str, info: ValidationInfo) -> str:
        """What cannot be listened on is found before anything starts. Empty: what listens says what that means."""
        if value and info.data.get("transport") != "unix":
            split_endpoint(value)
        return value


class HttpServerBlock(ListenBlock):
    """confighttp server options."""

    transport: Literal["tcp", "tcp4", "tcp6", "unix", ""] = Field("tcp", description="Type of the socket.")
    endpoint: str = Field("", description="host:port to listen on; port 0: any free port.")
    tls: TlsServerBlock | None = Field(None, description="TLS options; without them connections are plain text.")
    cors: CorsBlock | None = Field(None, description="Cross-origin requests from browsers (CORS).")
    auth: HttpServerAuthBlock | None = Field(None, description="Authenticator extension.")
    max_request_body_size: ByteSize = Field(20 * 1024 * 1024, description="Largest request body after decompression; 0: 20 MiB.")
    include_metadata: bool = Field(False, description="Keep the headers of the request as metadata of the data.")
    response_headers: dict[str, Secret] = Field({}, description="Headers to add to every response.")
    compression_algorithms: list[Literal["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4", "x-snappy-framed"]] | None = Field(
        None, description="Compressions to accept; default: all."
    )
    read_timeout: Duration = Field(
        0.0,
        description="Time limit for reading a request, body included; 0: no limit, as long as the body does not stop for half a "
        "minute.",
    )
    read_header_timeout: Duration = Field(60.0, description="Time limit for reading the headers of a request; 0: read_timeout.")
    write_timeout: Duration = Field(30.0, description="Time limit for writing a response; 0: no limit.")
    idle_timeout: Duration = Field(60.0, description="Time after which an idle connection is closed; 0: read_timeout.")
    keep_alives_enabled: bool = Field(True, description="Allow several requests per connection.")
    max_connections: int = Field(
        1000,
        ge=0,
        description="Largest number of connections, the longest idle one is closed for a new one; 0: a quarter of the open files "
        "that the process may have. The Go collector does not have this option.",
    )
    middlewares: list[dict[str, str]] = Field([], description="Accepted when empty.", max_length=0)


class KeepaliveClientBlock(ComponentConfig):
    """`keepalive` of a gRPC client."""

    time: Duration = Field(10.0, description="Send a ping after this time without activity.")
    timeout: Duration = Field(10.0, description="Close the connection when a ping is not answered within this time.")
    permit_without_stream: bool = Field(False, description="Send pings even when no call is open.")


class GrpcClientBlock(ComponentConfig):
    """configgrpc client options."""

    endpoint: str = Field("", description="host:port, or with scheme http:// (plain text), https:// or dns:///.")
    compression: Literal["gzip", "zstd", "snappy", "none", ""] = Field(
        "gzip",
        description="Compression of messages; with zstd and snappy there is one connection, without keepalive pings, proxies of "
        "the environment and wait_for_ready.",
    )
    tls: TlsClientBlock = Field(TlsClientBlock(), description="TLS options.")
    keepalive: KeepaliveClientBlock | None = Field(None, description="Keepalive pings.")
    read_buffer_size: ByteSize = Field(32 * 1024, description="Accepted for compatibility.")
    write_buffer_size: ByteSize = Field(512 * 1024, description="Accepted for compatibility.")
    wait_for_ready: bool = Field(False, description="Wait for a connection instead of failing immediately.")
    headers: dict[str, Secret] = Field({}, description="Metadata to add to every call.")
    balancer_name: str = Field("round_robin", description="Load balancing policy for the addresses of the endpoint.")
    authority: str = Field("", description="Value of the :authority header.")
    user_agent: str = Field("", description="Value of the user-agent header; empty: kofagent and its version.")
    auth: AuthBlock | None = Field(None, description="Authenticator extension.")
    middlewares: list[dict[str, str]] = Field([], description="Accepted when empty.", max_length=0)

    @field_validator("tls")
    @classmethod
    def _possible_tls(cls, value: TlsClientBlock, info: ValidationInfo) -> TlsClientBlock:
        """gRPC's library has no such options; without TLS they do not matter."""
        if is_plain_grpc(info.data.get("endpoint", ""), value.insecure):
            return value
        fixed = {
            "min_version": value.min_version not in ("1.2", ""),
            "max_version": value.max_version != "",
            "cipher_suites": bool(value.cipher_suites),
        }
        what = "cannot be chosen: a gRPC client always uses TLS 1.2 or 1.3 with the cipher suites of its library"
        if any(fixed.values()):
            raise ConfigErrors(Problem((name,), what, "remove it") for name, chosen in fixed.items() if chosen)
        return value


class KeepaliveServerParameters(ComponentConfig):
    """`keepalive.server_parameters` of a gRPC server."""

    max_connection_idle: Duration = Field(0.0, description="Close a connection after this time without calls; 0: never.")
    max_connection_age: Duration = Field(0.0, description="Close a connection when it is this old; 0: never.")
    max_connection_age_grace: Duration = Field(0.0, description="Time for open calls to end after max_connection_age; 0: no limit.")
    time: Duration = Field(7200.0, description="Send a ping after this time without activity.")
    timeout: Duration = Field(20.0, description="Close the connection when a ping is not answered within this time.")


class KeepaliveEnforcementPolicy(ComponentConfig):
    """`keepalive.enforcement_policy` of a gRPC server."""

    min_time: Duration = Field(300.0, description="Shortest time between pings; a client that pings more often is disconnected.")
    permit_without_stream: bool = Field(False, description="Allow pings when no call is open.")


class KeepaliveServerBlock(ComponentConfig):
    """`keepalive` of a gRPC server."""

    server_parameters: KeepaliveServerParameters | None = Field(None, description="Pings of the server and limits.")
    enforcement_policy: KeepaliveEnforcementPolicy | None = Field(None, description="Limits for the pings of clients.")


class DialerBlock(ComponentConfig):
    """`dialer` of an address that is listened to, which upstream has in common with those that are connected to."""

    timeout: Duration = Field(0.0, ge=0, description="Accepted for compatibility; a server does not dial.")


class GrpcServerBlock(ListenBlock):
    """configgrpc server options."""

    transport: Literal["tcp", "tcp4", "tcp6", "unix", ""] = Field("tcp", description="Type of the socket.")
    endpoint: str = Field("", description="host:port to listen on; port 0: any free port.")
    dialer: DialerBlock = Field(DialerBlock(), description="Accepted for compatibility; a server does not dial.")
    tls: TlsServerBlock | None = Field(None, description="TLS options; without them connections are plain text.")
    max_recv_msg_size_mib: int = Field(4, description="Largest message after decompression in MiB; 0: 4.")
    max_concurrent_streams: int = Field(0, description="Largest number of open calls per connection; 0: 100.")
    max_connections: int = Field(
        1000,
        ge=0,
        description="Largest number of connections, the longest idle one is closed for a new one; 0: a quarter of the open files "
        "that the process may have. The Go collector does not have this option.",
    )
    read_buffer_size: ByteSize = Field(512 * 1024, description="Accepted for compatibility.")
    write_buffer_size: ByteSize = Field(0, description="Accepted for compatibility.")
    keepalive: KeepaliveServerBlock | None = Field(None, description="Keepalive pings and the age of connections.")
    auth: ServerAuthBlock | None = Field(None, description="Authenticator extension.")
    include_metadata: bool = Field(False, description="Keep the metadata of the call as metadata of the data.")
    middlewares: list[dict[str, str]] = Field([], description="Accepted when empty.", max_length=0)


_ANSWER = re.compile(r"[3-5][0-9]{2}|[345]xx|[A-Z][A-Z_]+")


class RetryBlock(ComponentConfig):
    """`retry_on_failure`: exponential backoff with jitter."""

    enabled: bool = Field(True, description="Retry failures that may be temporary.")
    initial_interval: Duration = Field(5.0, description="First wait.")
    randomization_factor: float = Field(0.5, ge=0, le=1, description="Jitter: a wait w becomes w*(1-f) to w*(1+f).")
    multiplier: float = Field(1.5, ge=1, description="Each wait is this many times the one before.")
    max_interval: Duration = Field(30.0, description="Longest wait.")
    max_elapsed_time: Duration = Field(300.0, description="Give up after this long; 0: never.")
    retryable_statuses: list[int | str] | None = Field(
        None,
        description="Answers that are tried again although the protocol says that they are final, because they may pass (a token "
        "or a proxy that is being replaced): HTTP statuses such as 404, classes such as 3xx, gRPC codes such as UNAUTHENTICATED. "
        "Not set: none, or for an agent that runs with KOF values 3xx, 401, 403, 404, 408, UNAUTHENTICATED, PERMISSION_DENIED and "
        "UNIMPLEMENTED.",
    )

    @field_validator("retryable_statuses")
    @classmethod
    def _answers(cls, value: list[int | str] | None) -> list[int | str] | None:
        for one in value or ():
            if not _ANSWER.fullmatch(str(one)):
                raise ValueError(f"{one!r} is no answer; write an HTTP status (404), a class (3xx) or a gRPC code (UNAVAILABLE)")
        return value


class ConsumerRetryBlock(ComponentConfig):
    """`retry_on_failure` of a receiver: what happens when the pipeline does not take a batch for now."""

    enabled: bool = Field(False, description="Offer the batch again; false: it is dropped and counted.")
    initial_interval: Duration = Field(1.0, description="First wait.")
    max_interval: Duration = Field(30.0, description="Longest wait.")
    max_elapsed_time: Duration = Field(300.0, description="Give up after this; 0: never.")


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
    storage: QueueStorageId | None = Field(
        None, description="Storage extension that holds the queue; data is accepted once it is on disk, and survives a restart."
    )
    storage_max_size: ByteSize = Field(
        512 << 20, ge=1 << 20, description="Bytes that the queue may take on disk, besides queue_size; only with storage."
    )
    storage_when_full: Literal["refuse", "drop_oldest"] = Field(
        "refuse",
        description="What happens with new data when the queue on disk, or its volume, is full: it is refused and stays with its "
        "sender, or the oldest data in the queue is dropped for it, counted as `oldest dropped`.",
    )
    storage_credentials: bool = Field(
        False,
        description="Keep headers that look like credentials (authorization, cookie, tokens, keys) in the queue on disk, where "
        "headers_setter needs them with from_context. Otherwise they are left out, unless batch.partition names them.",
    )
    batch: QueueBatchBlock | None = Field(
        None, description="Join and split batches in the queue; takes the place of the batch processor."
    )

    def notices(self) -> Iterable[Problem]:
        """A storage for a queue that is off."""
        if self.storage and not self.enabled:
            yield Problem(
                ("storage",), "has no effect, since the queue is off: nothing is kept on disk", "set enabled: true", warning=True
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
        if self.enabled and self.storage and self.storage_when_full == "drop_oldest" and self.block_on_overflow:
            raise ValueError("block_on_overflow cannot be used with storage_when_full: drop_oldest; remove one")
        if self.enabled and self.batch is not None and self.batch.sizer == self.sizer and self.batch.min_size > self.queue_size:
            raise ValueError(
                f"batch.min_size ({self.batch.min_size}) is more than queue_size ({self.queue_size}), which it cannot reach"
            )
        return self


class ProtocolsBlock(ComponentConfig):
    """`protocols` of a receiver: each field is one, None is off. What is named is on, if only with its defaults."""

    @model_validator(mode="before")
    @classmethod
    def _named_is_on(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: {} if block is None and name in cls.model_fields else block for name, block in value.items()}
        return value
