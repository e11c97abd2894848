"""A gRPC server over raw bytes: sockets, TLS and keepalive of configgrpc upstream, `grpc.aio` generic handlers.

The C core would decompress messages before it looks at their size, so decompression is switched off there and done by
`plain_message` with a limit. A protobuf message never begins with a magic number of gzip, and an OTLP request with none of
the others.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from kofagent.component.protocols import StartError
from kofagent.config.address import join_endpoint
from kofagent.config.blocks import GrpcServerBlock, TlsServerBlock
from kofagent.net import tls
from kofagent.net.compression import decompress
from kofagent.net.listen import bind_problem, listen_address, remove_stale_socket
from kofagent.net.tls import pem

Method = Callable[[bytes, Any], Awaitable[bytes]]
STOP_SECONDS = 3.0


def plain_message(message: bytes, limit: int) -> bytes:
    """The message decompressed, at most `limit` bytes. TooLarge, CorruptBody as `decompress`."""
    if message[:1] == b"\x0a" or not message:
        return message
    if message[:2] == b"\x1f\x8b":
        return decompress("gzip", message, limit)
    if message[:1] == b"\x78" and len(message) > 5 and int.from_bytes(message[:2], "big") % 31 == 0:
        return decompress("deflate", message, limit)
    return message


def message_limit(settings: GrpcServerBlock) -> int:
    """Bytes of the largest message."""
    return (settings.max_recv_msg_size_mib if settings.max_recv_msg_size_mib > 0 else 4) * 1024 * 1024


def _ms(seconds: float) -> int:
    return min(int(seconds * 1000), (1 << 31) - 1)


def server_options(settings: GrpcServerBlock) -> list[tuple[str, Any]]:
    """Channel arguments of the C core for the options."""
    options: list[tuple[str, Any]] = [
        ("grpc.so_reuseport", 0),
        ("grpc.per_message_decompression", 0),
        ("grpc.max_receive_message_length", message_limit(settings)),
    ]
    if settings.max_concurrent_streams > 0:
        options.append(("grpc.max_concurrent_streams", settings.max_concurrent_streams))
    keepalive = settings.keepalive
    if keepalive is not None and keepalive.server_parameters is not None:
        parameters = keepalive.server_parameters
        for name, seconds in (
            ("grpc.max_connection_idle_ms", parameters.max_connection_idle),
            ("grpc.max_connection_age_ms", parameters.max_connection_age),
            ("grpc.max_connection_age_grace_ms", parameters.max_connection_age_grace),
            ("grpc.keepalive_time_ms", parameters.time),
            ("grpc.keepalive_timeout_ms", parameters.timeout),
        ):
            if seconds > 0:
                options.append((name, _ms(seconds)))
    if keepalive is not None and keepalive.enforcement_policy is not None:
        policy = keepalive.enforcement_policy
        options.append(("grpc.http2.min_ping_interval_without_data_ms", _ms(policy.min_time)))
        options.append(("grpc.keepalive_permit_without_calls", int(policy.permit_without_stream)))
    return options


class GrpcServer:
    """Listens from `start` to `stop`; `port` tells where. `services[name][method]` are the unary methods, bytes to bytes."""

    def __init__(self, settings: GrpcServerBlock, id: str, services: Mapping[str, Mapping[str, Method]]) -> None:
        self._settings = settings
        self._id = id
        self._services = services
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Binds; StartError with a clear sentence when that is not possible."""
        settings = self._settings
        server = grpc.aio.server(options=server_options(settings))
        for service, methods in self._services.items():
            server.add_generic_rpc_handlers(
                (
                    grpc.method_handlers_generic_handler(
                        service, {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
                    ),
                )
            )
        if settings.transport == "unix":
            address = "unix:" + settings.endpoint
            remove_stale_socket(settings.endpoint)
        else:
            host, port = listen_address(self._id, settings.endpoint, settings.transport)
            _probe(self._id, host, port)
            address = join_endpoint(host, port)
        try:
            if settings.tls is not None:
                self.port = server.add_secure_port(address, server_credentials(self._id, settings.tls))
            else:
                self.port = server.add_insecure_port(address)
        except RuntimeError:
            raise StartError(f"{self._id}: cannot listen on {settings.endpoint}; is the address one of this machine's?") from None
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Refuses new calls, lets those under way end for some seconds."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(STOP_SECONDS)


def _probe(id: str, host: str, port: int) -> None:
    """The C core says only that it failed; binding once by ourselves finds out why."""
    if port == 0:
        return
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise StartError(f"{id}: cannot listen on {join_endpoint(host, port)}: {bind_problem(error)}") from None


def server_credentials(id: str, block: TlsServerBlock) -> grpc.ServerCredentials:
    """Certificate, key and the CA of client certificates; StartError when a file is unusable or an option cannot be kept."""
    if block.min_version in ("1.0", "1.1", "1.3") or block.max_version or block.cipher_suites:
        raise StartError(
            f"{id}: tls of a gRPC server is TLS 1.2 and 1.3 with the library's cipher suites; "
            "remove min_version, max_version and cipher_suites"
        )
    tls.server_context(block)  # checks the files, with clear errors

    def load() -> tuple[bytes, bytes, bytes | None]:
        return (
            pem(block.key_file, block.key_pem),
            pem(block.cert_file, block.cert_pem),
            pem(block.client_ca_file, None) if block.client_ca_file else None,
        )

    key, certificate, ca = load()
    if block.reload_interval <= 0:
        return grpc.ssl_server_credentials([(key, certificate)], ca, ca is not None)
    import time

    state = {"next": time.monotonic() + block.reload_interval}

    def configuration() -> grpc.ServerCertificateConfiguration | None:
        """Asked at each handshake: None keeps what there is."""
        if time.monotonic() < state["next"]:
            return None
        state["next"] = time.monotonic() + block.reload_interval
        try:
            key, certificate, ca = load()
        except OSError:
            return None
        return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)

    first = grpc.ssl_server_certificate_configuration([(key, certificate)], ca)
    return grpc.dynamic_ssl_server_credentials(first, configuration, ca is not None)
