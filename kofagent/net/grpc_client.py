"""A gRPC channel of `configgrpc` client options, for unary calls over raw bytes."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from kofagent import __version__
from kofagent.component.protocols import ClientAuth, Context, StartError
from kofagent.config.address import is_plain_grpc, split_endpoint
from kofagent.config.base import Secret
from kofagent.config.blocks import GrpcClientBlock
from kofagent.config.redact import without_sent
from kofagent.net import tls
from kofagent.net.grpc_packed import ENCODINGS, PackedChannel
from kofagent.net.tls import pem
from kofagent.telemetry.batch import Metadata

GRACE = 30.0
"""Seconds that calls in progress have to finish after the certificate was replaced."""
_SCHEME = re.compile(r"^(http|https|dns|unix)://", re.IGNORECASE)


def target(endpoint: str) -> str:
    """The C core's name of an endpoint: `host:port`, `dns:///host:port` or `unix:path`. ValueError with a sentence."""
    match = _SCHEME.match(endpoint)
    scheme = match[1].lower() if match else ""
    rest = endpoint[match.end() :] if match else endpoint
    if scheme == "unix":
        if not rest:
            raise ValueError("the path of the unix socket is missing")
        return "unix:" + rest
    address = rest.rstrip("/") if scheme in ("http", "https") else rest
    if scheme == "dns":
        address = rest.removeprefix("/")
    if not address:
        raise ValueError("no endpoint; write host:port, for example localhost:4317")
    host, _ = split_endpoint(address)
    if not host:
        raise ValueError(f"{endpoint!r} has no host; write for example localhost:4317")
    return f"dns:///{address}" if scheme == "dns" else address


def is_plain(settings: GrpcClientBlock) -> bool:
    """True without TLS: http:// always, https:// never, else as tls.insecure says."""
    return is_plain_grpc(settings.endpoint, settings.tls.insecure)


def channel_options(settings: GrpcClientBlock) -> list[tuple[str, Any]]:
    """Channel arguments of the C core for the options."""
    options: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", settings.user_agent or f"kofagent/{__version__}"),
        ("grpc.lb_policy_name", settings.balancer_name),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 10000),
    ]
    if settings.authority:
        options.append(("grpc.default_authority", settings.authority))
    keepalive = settings.keepalive
    if keepalive is not None:
        options += [
            ("grpc.keepalive_time_ms", int(keepalive.time * 1000)),
            ("grpc.keepalive_timeout_ms", int(keepalive.timeout * 1000)),
            ("grpc.keepalive_permit_without_calls", int(keepalive.permit_without_stream)),
            ("grpc.http2.max_pings_without_data", 0),
        ]
    return options


class GrpcClient:
    """A channel with the configured metadata, authenticator and compression."""

    def __init__(self, settings: GrpcClientBlock, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._auth: ClientAuth | None = None
        self._metadata = [(name.lower(), value.get_secret_value()) for name, value in settings.headers.items()]
        self._channel: Any = None
        self._methods: dict[str, Any] = {}
        self._files = tls.client_files(settings.tls, settings.tls.reload_interval or None)
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Reads certificates, finds the authenticator; StartError. Connecting is left to the first call."""
        settings = self._settings
        if settings.auth is not None:
            self._auth = self._context.host.extension(settings.auth.authenticator, ClientAuth)
        if not is_plain(settings):
            tls.check_client(settings.tls)
        if is_plain(settings) or not settings.tls.insecure_skip_verify:
            self._open(None)

    def _open(self, trusted: tuple[bytes, str] | None) -> None:
        """Makes the channel. `trusted` is a certificate and a name in it that are believed as they are."""
        settings = self._settings
        options = channel_options(settings)
        compression = grpc.Compression.Gzip if settings.compression == "gzip" else grpc.Compression.NoCompression
        where = target(settings.endpoint)
        if settings.compression in ENCODINGS:
            self._channel = PackedChannel(settings, where, is_plain(settings))
            return
        if is_plain(settings):
            self._channel = grpc.aio.insecure_channel(where, options=options, compression=compression)
            return
        block = settings.tls
        roots = trusted[0] if trusted else self._roots()
        has_own = block.cert_file or block.cert_pem
        key, certificate = (pem(block.key_file, block.key_pem), pem(block.cert_file, block.cert_pem)) if has_own else (None, None)
        credentials = grpc.ssl_channel_credentials(roots, key, certificate)
        name = trusted[1] if trusted else block.server_name_override
        if name:
            options.append(("grpc.ssl_target_name_override", name))
        self._channel = grpc.aio.secure_channel(where, credentials, options=options, compression=compression)

    def _renew(self) -> None:
        """New calls use the current files; calls in progress finish on the old connections."""
        try:
            tls.check_client(self._settings.tls)
        except StartError as error:
            self._context.log.warning("%s; the previous files stay in use", error)
            return
        finally:
            self._files.accept()
        old, self._channel, self._methods = self._channel, None, {}
        if not self._settings.tls.insecure_skip_verify:
            self._open(None)
        if old is not None:
            task = asyncio.ensure_future(old.close(GRACE))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _roots(self) -> bytes | None:
        block = self._settings.tls
        own = pem(block.ca_file, block.ca_pem) if block.ca_file or block.ca_pem else None
        if own is not None and not block.include_system_ca_certs_pool:
            return own
        paths = ssl.get_default_verify_paths()
        if paths.cafile:
            with open(paths.cafile, "rb") as file:
                return (own or b"") + b"\n" + file.read()
        return own

    async def call(self, method: str, message: bytes, metadata: Metadata | None, timeout: float | None) -> bytes:
        """One unary call. grpc.aio.AioRpcError for every failure; OSError when the server's certificate cannot be fetched."""
        if self._files.changed():
            self._renew()
        if self._channel is None and self._settings.compression in ENCODINGS:
            self._open(None)
        elif self._channel is None:
            # insecure_skip_verify: the library always verifies, so the certificate that the server shows is made a trusted one
            self._open(await asyncio.to_thread(_shown_certificate, self._settings))
        send = self._metadata
        if self._auth is not None:
            added: Mapping[str, str] = await self._auth.request_headers(metadata)
            names = {name.lower() for name in added}
            send = [pair for pair in send if pair[0] not in names] + [(name.lower(), value) for name, value in added.items()]
        if isinstance(self._channel, PackedChannel):
            return await self._channel.call(method, message, send, timeout)
        stub = self._methods.get(method)
        if stub is None:
            stub = self._methods[method] = self._channel.unary_unary(method)
        try:
            answer: bytes = await stub(
                message, timeout=timeout or None, metadata=send or None, wait_for_ready=self._settings.wait_for_ready or None
            )
            return answer
        except grpc.aio.AioRpcError as error:
            settings = self._settings
            if error.code() is grpc.StatusCode.UNAVAILABLE and settings.tls.insecure_skip_verify and not is_plain(settings):
                await self.stop()  # it may have another certificate now
            said = without_sent((error.details() or "").encode(), dict(send)).decode("utf-8", "replace")
            raise grpc.aio.AioRpcError(error.code(), error.initial_metadata(), error.trailing_metadata(), said) from None

    async def stop(self) -> None:
        """Closes the connections; `call` would open them again."""
        channel, self._channel = self._channel, None
        self._methods = {}
        if channel is not None:
            await channel.close()


def _shown_certificate(settings: GrpcClientBlock) -> tuple[bytes, str]:
    """The certificate that the server shows, as PEM, and a name in it. OSError."""
    host, port = split_endpoint(target(settings.endpoint).removeprefix("dns:///"))
    own = tls.client_context(settings.tls)
    shown, _ = _ask(host, port, own)
    # `ssl` decodes only certificates that it has verified, so a second handshake trusts the certificate shown in the first one.
    certificate = ssl.DER_cert_to_PEM_cert(shown)
    trusting = tls.client_context(settings.tls.model_copy(update={"ca_file": "", "ca_pem": Secret(certificate)}))
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_REQUIRED
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        _, decoded = _ask(host, port, trusting)
    except ssl.SSLError:
        decoded = {}  # gRPC will reject it, too, and report why
    return certificate.encode(), name_in(decoded) or host


def _ask(host: str, port: int, context: ssl.SSLContext) -> tuple[bytes, dict[str, Any]]:
    """The certificate of a server: as DER, and decoded if the context verifies it."""
    with socket.create_connection((host, port), timeout=5) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
        return secure.getpeercert(binary_form=True) or b"", secure.getpeercert() or {}


def name_in(certificate: Mapping[str, Any]) -> str:
    """The first name in a certificate (as decoded by `SSLSocket.getpeercert`); empty when it has none."""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in ("DNS", "IP Address"):
            return str(name).replace("*", "x")
    for pairs in certificate.get("subject", ()):
        for key, value in pairs:
            if key == "commonName":
                return str(value)
    return ""
