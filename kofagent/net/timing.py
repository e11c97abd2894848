"""What one HTTP request took, by its parts, and the certificate that its server has. Only clients that ask for it are measured.

`measure` is set around a request; hooks of aiohttp and the TLS object of the connection tell the request's `Timing` what happens.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from yarl import URL

from kofagent.config.compat import IncompatibleLibrary, unverified_certificate

_MOST = 100
"""Servers whose certificates are kept for one client."""

Certificate = dict[str, Any]
"""As `ssl.SSLSocket.getpeercert` describes it."""


class Certificates:
    """The certificates of the servers that a client is connected to: a connection that is used again has no handshake."""

    def __init__(self) -> None:
        self._by_origin: dict[URL, Certificate] = {}

    def put(self, origin: URL, certificate: Certificate) -> None:
        """Remembers the certificate; the oldest of too many is forgotten."""
        self._by_origin.pop(origin, None)
        self._by_origin[origin] = certificate
        if len(self._by_origin) > _MOST:
            del self._by_origin[next(iter(self._by_origin))]

    def get(self, origin: URL) -> Certificate | None:
        """What the server showed when it was last connected to."""
        return self._by_origin.get(origin)


class Timing:
    """Seconds of one request; what did not happen took 0. Of a request that is redirected, the last that happened counts."""

    def __init__(self, certificates: Certificates) -> None:
        self.started = time.monotonic()
        self.dns = self.connection = self.handshake = self.request = 0.0
        self.answered = 0.0
        """When the headers of the answer were there; 0: they never were."""
        self._certificates = certificates
        self._origin: URL | None = None
        self._mark = 0.0

    def since_answer(self) -> float:
        """Seconds since the headers of the answer."""
        return time.monotonic() - self.answered if self.answered else 0.0

    def certificate(self) -> Certificate | None:
        """That of the server that answered; None without TLS."""
        secure = self.answered and self._origin is not None and self._origin.scheme == "https"
        return self._certificates.get(self._origin) if secure and self._origin is not None else None

    def sending(self, url: URL) -> None:
        """A request begins, or the next one after a redirect."""
        self._origin = url.origin()

    def mark(self) -> None:
        """The beginning of what `resolved` and `connected` end."""
        self._mark = time.monotonic()

    def resolved(self) -> None:
        """The addresses are known; connecting begins."""
        now = time.monotonic()
        self.dns, self._mark = now - self._mark, now

    def connected(self) -> None:
        """The connection stands, without TLS."""
        if self._mark:
            self.connection, self._mark = time.monotonic() - self._mark, 0.0

    def sent(self) -> None:
        """All that was to be sent so far is."""
        self.request = time.monotonic() - self.started

    def answer(self) -> None:
        """The headers of the answer are there."""
        self.answered = time.monotonic()

    def shaken(self, seconds: float, certificate: Certificate) -> None:
        """A TLS handshake is over."""
        self.handshake = seconds
        if certificate and self._origin is not None:
            self._certificates.put(self._origin, certificate)


_current: ContextVar[Timing | None] = ContextVar("timing", default=None)


@contextmanager
def measure(certificates: Certificates) -> Iterator[Timing]:
    """The timing of the one request that is made inside, by a client that is `timed`."""
    timing = Timing(certificates)
    token = _current.set(timing)
    try:
        yield timing
    finally:
        _current.reset(token)


class TimedTls(ssl.SSLObject):
    """The TLS of a connection that measures its handshake."""

    _began = 0.0

    def do_handshake(self) -> None:
        """Is called again as long as something is missing; ssl.SSLWantReadError says so."""
        timing = _current.get()
        if not self._began:
            self._began = time.monotonic()
            if timing is not None:
                timing.connected()
        super().do_handshake()
        if timing is not None:
            timing.shaken(time.monotonic() - self._began, _certificate(self))


def _certificate(tls: ssl.SSLObject) -> Certificate:
    """`getpeercert` says nothing of a certificate that was not verified; what it asks does."""
    try:
        return tls.getpeercert() or unverified_certificate(tls)
    except IncompatibleLibrary:
        return {}  # a connection is worth more than what is said of it


def traces() -> list[aiohttp.TraceConfig]:
    """The hooks of a client that is timed."""
    config = aiohttp.TraceConfig()

    def on(signal: Any, tell: Any) -> None:
        async def hook(session: aiohttp.ClientSession, context: object, params: Any) -> None:
            timing = _current.get()
            if timing is not None:
                tell(timing, params)

        signal.append(hook)

    on(config.on_request_start, lambda timing, params: timing.sending(params.url))
    on(config.on_connection_create_start, lambda timing, params: timing.mark())
    on(config.on_dns_resolvehost_start, lambda timing, params: timing.mark())
    on(config.on_dns_resolvehost_end, lambda timing, params: timing.resolved())
    on(config.on_connection_create_end, lambda timing, params: timing.connected())
    on(config.on_request_headers_sent, lambda timing, params: timing.sent())
    on(config.on_request_chunk_sent, lambda timing, params: timing.sent())
    on(config.on_request_end, lambda timing, params: timing.answer())
    return [config]
