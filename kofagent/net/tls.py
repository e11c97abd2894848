"""TLS contexts of clients and servers from upstream's `tls` blocks (configtls), and their renewal when files change.

Every problem is a StartError that names the file and the option. Prometheus' `tls_config`, kubeconfigs and service accounts are
written as such a block first, so that this is the only place where contexts are made.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from kofagent.component.protocols import StartError
from kofagent.config.base import Secret
from kofagent.config.blocks import TlsBlock, TlsClientBlock, TlsServerBlock
from kofagent.config.cipher_suites import openssl_ciphers

_VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
CLIENT_CA_INTERVAL = 1.0
"""Seconds between two checks of client_ca_file with `client_ca_file_reload`."""


def client_context(tls: TlsClientBlock, name: str = "tls") -> ssl.SSLContext:
    """A client's context: verifies the server unless `insecure_skip_verify`. `name` is what the block is called in errors."""
    context = check_client(tls, name)
    if not tls.insecure_skip_verify and (tls.include_system_ca_certs_pool or not (tls.ca_file or tls.ca_pem)):
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def check_client(tls: TlsClientBlock, name: str = "tls") -> ssl.SSLContext:
    """StartError for what `client_context` would find, without the system's certificates: they take 30 ms of CPU and 0.9 MiB."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _apply_common(context, tls)
    if tls.ca_file or tls.ca_pem:
        _trust(context, f"{name}.ca_file", tls.ca_file, tls.ca_pem)
    _load_own(context, tls, name)
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def server_context(tls: TlsServerBlock, name: str = "tls") -> ssl.SSLContext:
    """A server's context: needs a certificate; with `client_ca_file` clients must present one signed by that CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _apply_common(context, tls)
    _load_own(context, tls, name)
    if tls.client_ca_file:
        _trust(context, f"{name}.client_ca_file", tls.client_ca_file, None)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Files:
    """Detects that one of several files was replaced, also through the target of a symlink.

    Checks happen on demand, at most once in `every` seconds; None: never.
    """

    def __init__(self, paths: Iterable[str], every: float | None) -> None:
        self._paths = [path for path in paths if path]
        self._every = every
        self._seen = self._look()
        self._found = self._seen
        self._next = time.monotonic() + (every or 0.0)

    def changed(self) -> bool:
        """Whether they differ from the files at the last `accept`, or when this object was created."""
        if self._every is None or not self._paths:
            return False
        if self._every:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + self._every
        self._found = self._look()
        return self._found != self._seen

    def accept(self) -> None:
        """Marks the files that `changed` saw last as the ones in use."""
        self._seen = self._found

    def __bool__(self) -> bool:
        return bool(self._paths)

    def _look(self) -> list[object]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class ClientTls:
    """A client's context, made again when one of its files changed; `every` as for `Files`."""

    def __init__(self, block: TlsClientBlock, name: str = "tls", every: float | None = None) -> None:
        self.server_name = block.server_name_override
        self._block = block
        self._name = name
        self._files = client_files(block, every)
        self.last: ssl.SSLContext | None = None
        """The last context that could be made."""

    def check(self) -> None:
        """StartError that names what is not usable. Without files the first connection makes the context."""
        if self._files:
            self.context()
        else:
            check_client(self._block, self._name)

    def context(self) -> ssl.SSLContext:
        """The context for the files as they are now; StartError that names the file that is not usable."""
        # hot: scrape, asked for each request over TLS
        if self.last is None or self._files.changed():
            self.last = client_context(self._block, self._name)
            self._files.accept()
        return self.last


def client_files(block: TlsClientBlock, every: float | None) -> Files:
    """The files of a client."""
    return Files((block.ca_file, block.cert_file, block.key_file), every)


class ServerTls:
    """A server's context; with `reload_interval` or `client_ca_file_reload` handshakes use what the files hold now.

    Nothing is done without connections. Files that are not usable leave the context as it was, and `warn` gets the reason.
    """

    def __init__(self, block: TlsServerBlock, warn: Callable[[str], None], name: str = "tls", alpn: Sequence[str] = ()) -> None:
        """`alpn` are the protocols that clients may choose."""
        self._block = block
        self._warn = warn
        self._name = name
        self._alpn = list(alpn)
        own = [block.cert_file, block.key_file] if block.reload_interval > 0 else []
        every = block.reload_interval if own else None
        if block.client_ca_file and block.client_ca_file_reload:
            own.append(block.client_ca_file)
            every = min(every or CLIENT_CA_INTERVAL, CLIENT_CA_INTERVAL)
        self._files = Files(own, every)
        self.context = self._current = self._make()
        """What the socket is given."""
        if every is not None:
            self.context = self._make()
            self.context.sni_callback = self._handshake
            if block.client_ca_file:
                # A resumed session does not show its certificate again, so a client of a removed CA could continue.
                self.context.options |= ssl.OP_NO_TICKET
                self.context.num_tickets = 0

    def _make(self) -> ssl.SSLContext:
        context = server_context(self._block, self._name)
        if self._alpn:
            context.set_alpn_protocols(self._alpn)
        return context

    def _handshake(self, connection: ssl.SSLObject, server_name: str | None, context: ssl.SSLContext) -> None:
        if self._files.changed():
            try:
                self._current = self._make()
                self._files.accept()
            except StartError as error:
                self._warn(f"{error}; the previous certificate stays in use")
        connection.context = self._current


def _apply_common(context: ssl.SSLContext, tls: TlsBlock) -> None:
    context.minimum_version = _VERSIONS[tls.min_version or "1.2"]
    if tls.max_version:
        context.maximum_version = _VERSIONS[tls.max_version]
    if tls.cipher_suites:
        context.set_ciphers(openssl_ciphers(tls.cipher_suites))


def _trust(context: ssl.SSLContext, option: str, path: str, text: Secret | None) -> None:
    try:
        if text is not None:
            context.load_verify_locations(cadata=text.get_secret_value().encode("ascii", "ignore").decode())
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise StartError(f"{option} {path or '(ca_pem)'}: {_why(error)}") from None


def _load_own(context: ssl.SSLContext, tls: TlsBlock, name: str) -> None:
    if not tls.cert_file and not tls.cert_pem:
        return
    with _file_of(tls.cert_file, tls.cert_pem) as cert, _file_of(tls.key_file, tls.key_pem) as key:
        try:
            # Without a password OpenSSL would ask the terminal for that of an encrypted key, and wait.
            context.load_cert_chain(cert, key, password="")
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"{name}.cert_file {tls.cert_file or '(cert_pem)'}, key_file {tls.key_file or '(key_pem)'}: {_why(error)}"
            ) from None


@contextmanager
def _file_of(path: str, text: Secret | None) -> Iterator[str]:
    """OpenSSL loads certificates from files only: PEM text goes through a private file that is deleted immediately."""
    if text is None:
        yield path
        return
    handle, name = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text.get_secret_value())
        yield name
    finally:
        os.unlink(name)


def pem(path: str, text: Secret | None) -> bytes:
    """PEM from a file or an option, for libraries that take it as bytes. OSError."""
    if text is not None:
        return text.get_secret_value().encode()
    with open(path, "rb") as file:
        return file.read()


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a usable PEM file ({error.reason or 'no certificate in it'})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "not a usable PEM file"
