"""One HTTP client for every component that sends: TLS, auth extension, headers, compression, proxy, bounded answers.

Redirects: 307 and 308 keep method and body; 301, 302 and 303 are followed for GET and HEAD only. The configured headers,
cookies and Authorization stay behind when a redirect leaves scheme, host or port.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from kofagent import __version__
from kofagent.component.protocols import ClientAuth, Context
from kofagent.config.blocks import HttpClientBlock
from kofagent.net import tls
from kofagent.net.compression import compress as compress_body
from kofagent.net.os_errors import os_reason
from kofagent.net.proxy import environment_proxy
from kofagent.telemetry.batch import Metadata
from kofagent.telemetry.refused import Refused

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

USER_AGENT = f"kofagent/{__version__}"
MAX_REDIRECTS = 10


class Answer:
    """An HTTP answer: at most `limit` bytes of its body are kept."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: CIMultiDictProxy[str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class HttpClient:
    """A pooled client; `start` before the first `request`, `stop` at the end."""

    def __init__(self, settings: HttpClientBlock, context: Context, user_agent: str = USER_AGENT) -> None:
        self._settings = settings
        self._context = context
        self._headers = {"User-Agent": user_agent}
        self._session: aiohttp.ClientSession | None = None
        self._auth: ClientAuth | None = None
        self._level: int | None = None
        self._ssl: ssl.SSLContext | bool = True

    async def start(self) -> None:
        """Reads certificates, finds the authenticator; StartError when something is missing."""
        settings = self._settings
        self._ssl = tls.client_context(settings.tls)
        for name, value in settings.headers.items():
            self._headers = {k: v for k, v in self._headers.items() if k.lower() != name.lower()}
            self._headers[name] = value.get_secret_value()
        if settings.auth is not None:
            self._auth = self._context.host.extension(settings.auth.authenticator, ClientAuth)
        self._level = settings.compression_params.get("level")
        connector = aiohttp.TCPConnector(
            limit=settings.max_conns_per_host or 0,
            ssl=self._ssl,
            keepalive_timeout=None if settings.disable_keep_alives else settings.idle_conn_timeout or 90.0,
            force_close=settings.disable_keep_alives,
        )
        jar = None if settings.cookies.get("enabled") else aiohttp.DummyCookieJar()
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=jar,
            auto_decompress=True,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=16384,
            max_field_size=65536,
        )

    async def stop(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        url: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        metadata: Metadata | None = None,
        *,
        compress: bool = False,
        limit: int = 65536,
        timeout: float | None = None,
    ) -> Answer:
        """One request, redirects followed. Any status is an answer; a broken connection is a retryable `Refused`."""
        if self._session is None:
            raise Refused("shutdown", "the exporter is stopped")
        send = dict(self._headers)
        if headers:
            send.update(headers)
        if self._auth is not None:
            send.update(await self._auth.request_headers(metadata))
        settings = self._settings
        if compress and settings.compression not in ("", "none"):
            body = compress_body(settings.compression, body, self._level)
            send["Content-Encoding"] = settings.compression
        seconds = settings.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds or None):
                return await self._follow(method, URL(url), body, send, limit)
        except TimeoutError:
            raise Refused("timeout", f"no answer within {seconds:g} s") from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise Refused("tls", _tls_reason(error)) from None
        except aiohttp.InvalidURL:
            raise Refused("bad url", "the URL is not valid", permanent=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Refused("connection", _connection_reason(error)) from None

    async def _follow(self, method: str, url: URL, body: bytes, headers: dict[str, str], limit: int) -> Answer:
        assert self._session is not None
        origin = url.origin()
        override = self._settings.tls.server_name_override
        for _ in range(MAX_REDIRECTS + 1):
            extra: dict[str, Any] = {"server_hostname": override} if override and url.scheme == "https" else {}
            async with self._session.request(
                method,
                url,
                data=body or None,
                headers=headers,
                allow_redirects=False,
                proxy=self._settings.proxy_url or _proxy_of(str(url.origin())),
                **extra,
            ) as response:
                location = response.headers.get("Location")
                follow = response.status in (307, 308) or (response.status in (301, 302, 303) and method in ("GET", "HEAD"))
                if not follow or not location:
                    return Answer(response.status, response.headers, await _read(response, limit))
                await _read(response, 0)
                url = url.join(URL(location))
                if url.scheme not in ("http", "https") or (origin.scheme == "https" and url.scheme == "http"):
                    raise aiohttp.ClientError("redirect to another scheme refused")
                if url.origin() != origin:
                    keep = ("content-type", "content-encoding", "user-agent", "accept")
                    headers = {k: v for k, v in headers.items() if k.lower() in keep}
        raise aiohttp.ClientError(f"more than {MAX_REDIRECTS} redirects")


@functools.lru_cache(maxsize=1000)
def _proxy_of(origin: str) -> str | None:
    """The proxy that the environment named when a server was first asked. Refused for one that cannot be used.

    aiohttp's `trust_env` is not used: it asks a thread for each request, and sends logins out of ~/.netrc.
    """
    try:
        return environment_proxy(origin)
    except ValueError as error:
        raise Refused("connection", str(error)) from None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """At most `limit` bytes of the body; a longer one costs the connection, not memory."""
    out = bytearray()
    async for chunk in response.content.iter_any():
        out += chunk[: max(0, limit - len(out))]
        if len(out) >= limit and not response.content.at_eof():
            response.close()
            break
    return bytes(out)


def _tls_reason(error: BaseException) -> str:
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    message = getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or type(inner).__name__
    return f"TLS handshake failed: {message}"


def _connection_reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}: {os_reason(error.os_error)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds from now (RFC 9110: seconds or a date); None when absent or unreadable."""
    text = headers.get("Retry-After")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
