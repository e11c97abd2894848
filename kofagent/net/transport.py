"""What all HTTP clients send through: connections, TLS, proxies, redirects, and why a request failed, in words.

Redirects: 307 and 308 keep method and body; 301, 302 and 303 are followed for GET and HEAD only. What is not `PUBLIC` (credentials,
cookies, headers that the user configured) goes to the first scheme, host and port only: once a redirect has led away it stays
behind, also when a later one leads back. A body is never sent in plain text after it was meant for TLS.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import aiohttp
from yarl import URL

from kofagent.net.os_errors import os_reason

MAX_REDIRECTS = 10
PUBLIC = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-type",
        "user-agent",
        "x-prometheus-scrape-timeout-seconds",
    }
)
"""Headers that may follow a redirect to another host."""
FOREVER = 10 * 365 * 86400.0
"""No time limit, in seconds, for libraries that need a number."""
FAILURES = (aiohttp.ClientError, OSError)
"""Raised by `Transport.send` and while a body is read when a request fails, in addition to the errors of `net.body`."""


class RedirectRefused(aiohttp.ClientError):
    """A redirect that is not followed; the message says why."""


class Route:
    """How servers are reached: TLS, the name expected in certificates, proxies; evaluated for every request."""

    __slots__ = ("_proxy", "_proxy_headers", "_server_name", "_tls")

    def __init__(
        self,
        tls: Callable[[], ssl.SSLContext | bool],
        proxy: Callable[[URL], str | None],
        server_name: str = "",
        proxy_headers: Mapping[str, str] | None = None,
    ) -> None:
        """`proxy` gives the URL of a proxy for a target, None for a direct connection; `proxy_headers` are for the proxy alone."""
        self._tls = tls
        self._proxy = proxy
        self._server_name = server_name
        self._proxy_headers = proxy_headers or None

    def options(self, target: URL) -> dict[str, Any]:
        """The options of aiohttp's request for a target."""
        out: dict[str, Any] = {}
        if target.scheme == "https":
            out["ssl"] = self._tls()
            if self._server_name:
                out["server_hostname"] = self._server_name
        proxy = self._proxy(target)
        if proxy:
            out["proxy"] = proxy
            if self._proxy_headers:
                out["proxy_headers"] = self._proxy_headers
        return out


@dataclass(frozen=True)
class Limits:
    """Connections of one client; 0 is no limit."""

    per_host: int = 0
    idle_seconds: float = 90.0
    connect_seconds: float = 0.0
    keep_alive: bool = True
    dns_seconds: int = 10


class Transport:
    """The connections of one client between `start` and `stop`, which belong to the running event loop."""

    def __init__(
        self,
        limits: Limits = Limits(),
        *,
        cookies: bool = False,
        unix: str = "",
        traces: Sequence[aiohttp.TraceConfig] = (),
    ) -> None:
        """`unix`: the path of a socket, in place of the hosts of all URLs. `traces`: hooks of those that measure (`net.timing`)."""
        self._limits = limits
        self._cookies = cookies
        self._unix = unix
        self._traces = list(traces)
        self._session: aiohttp.ClientSession | None = None

    @property
    def running(self) -> bool:
        """Whether it is started."""
        return self._session is not None

    async def start(self) -> None:
        """Opens the pool; nothing is connected yet."""
        limits = self._limits
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(self._unix)
            if self._unix
            else aiohttp.TCPConnector(
                limit=0,
                limit_per_host=limits.per_host,
                keepalive_timeout=(limits.idle_seconds or FOREVER) if limits.keep_alive else None,
                force_close=not limits.keep_alive,
                ttl_dns_cache=limits.dns_seconds,
                socket_factory=_socket,
            )
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=None if self._cookies else aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # it would ask a thread for each request, and send logins out of ~/.netrc
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_seconds or None),
            skip_auto_headers=("Accept", "Accept-Encoding"),
            max_line_size=16384,
            max_field_size=65536,
            trace_configs=self._traces,
        )

    async def stop(self) -> None:
        """Closes all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        method: str,
        target: URL,
        route: Route,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        follow: bool = True,
    ) -> aiohttp.ClientResponse:
        """Sends a request. The caller reads and closes the response. Raises `FAILURES` and what the route raises."""
        # hot: scrape, otlp_http_span, every request comes through here
        if self._session is None:
            raise aiohttp.ClientError("the client is stopped")
        home = target.origin()
        for _ in range(MAX_REDIRECTS + 1):
            if target.raw_user is not None and any(name.lower() == "authorization" for name in headers):
                # As Go does it: a login in the URL is used when there is no other. aiohttp refuses both with a ValueError.
                target = target.with_user(None)
            try:
                response = await self._session.request(
                    method, target, data=body or None, headers=headers, allow_redirects=False, **route.options(target)
                )
            except UnicodeError:  # the resolver encodes names: one with an empty or too long label cannot be asked for
                raise aiohttp.InvalidURL(target) from None
            if not follow or response.status not in (301, 302, 303, 307, 308):
                return response
            place = response.headers.get("Location")
            if not place or (response.status < 304 and method not in ("GET", "HEAD")):
                return response
            response.release()
            try:
                target = target.join(URL(place))
            except ValueError:
                raise RedirectRefused("a redirect to something that is not a URL was not followed") from None
            if target.scheme not in ("http", "https") or not target.raw_host:
                raise RedirectRefused("a redirect to something that is not http or https was not followed")
            if body and home.scheme == "https" and target.scheme == "http":
                raise RedirectRefused("a redirect from https to http was not followed")
            if target.origin() != home:
                if confined.get():
                    raise RedirectRefused(
                        "a redirect to another server was not followed: what an annotation starts asks its pod only"
                    )
                headers = {name: value for name, value in headers.items() if name.lower() in PUBLIC}
        raise RedirectRefused(f"more than {MAX_REDIRECTS} redirects")


class Failure(NamedTuple):
    """Why a request failed. `kind` is one of `telemetry.reasons`; `where` (may be empty): what could not be reached. No secrets."""

    kind: Literal["tls", "connection", "bad url"]
    reason: str
    where: str = ""

    @property
    def sentence(self) -> str:
        """Both in one."""
        return f"{self.where}: {self.reason}" if self.where else self.reason


def failure(error: BaseException) -> Failure:
    """Why `Transport.send` or reading a body failed; for `FAILURES` and time-outs."""
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(inner, ssl.SSLError):
        return Failure("tls", f"TLS handshake failed: {getattr(inner, 'verify_message', '') or inner.reason or 'unknown reason'}")
    if isinstance(error, aiohttp.ClientSSLError | ssl.CertificateError):
        return Failure("tls", f"TLS handshake failed: {getattr(inner, 'verify_message', '') or type(inner).__name__}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Failure("connection", f"the proxy answered {error.status}")
    if isinstance(error, aiohttp.ClientConnectorError):
        proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
        where = f"cannot connect to {'the proxy ' if proxy else ''}{error.host}:{error.port}"
        return Failure("connection", os_reason(error.os_error), where)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Failure("connection", "the server closed the connection")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Failure("connection", "the answer is cut off")
    if isinstance(error, aiohttp.ClientResponseError):
        return Failure("connection", "the answer is not valid HTTP")
    if isinstance(error, aiohttp.InvalidURL):
        return Failure("bad url", "the URL is not valid")
    if isinstance(error, RedirectRefused):
        return Failure("connection", str(error))
    if isinstance(error, OSError):
        return Failure("connection", os_reason(error))
    return Failure("connection", str(error) if type(error) is ValueError else type(error).__name__)


confined: ContextVar[bool] = ContextVar("confined", default=False)
"""Whether clients of the running task stay with the servers that they are told to ask, wherever those send them."""

denied: ContextVar[Denied | None] = ContextVar("denied", default=None)
"""What clients of the running task must not connect to, whatever names, redirects and proxies lead there."""


class Denied:
    """Networks that must not be connected to. `option` is what the user can change."""

    def __init__(self, networks: Iterable[str], option: str) -> None:
        """ValueError for what is not a network."""
        self._networks = [ipaddress.ip_network(network, strict=False) for network in networks]
        self._option = option

    def check(self, host: str) -> None:
        """OSError for an address in one of the networks."""
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if any(mapped in network for network in self._networks if network.version == mapped.version):
            raise OSError(f"{self._option} forbids {mapped}")


def _socket(info: Any) -> socket.socket:
    """A socket with keepalive: an answer may be silent for minutes, and its peer may vanish without a word."""
    family, kind, protocol, _, address = info
    if (forbidden := denied.get()) is not None:
        forbidden.check(address[0])
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made
