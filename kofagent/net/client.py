"""The HTTP client of components that send: options of confighttp, auth extension, headers, compression, bounded answers."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import math
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from yarl import URL

from kofagent import __version__
from kofagent.component.protocols import ClientAuth, Context, StartError
from kofagent.config.blocks import HttpClientBlock
from kofagent.config.redact import without_sent
from kofagent.net.body import read_start
from kofagent.net.compression import compress as compress_body
from kofagent.net.proxy import environment_proxy
from kofagent.net.timing import TimedTls, traces
from kofagent.net.tls import ClientTls
from kofagent.net.transport import FAILURES, Limits, Route, Transport, failure
from kofagent.telemetry.batch import Metadata
from kofagent.telemetry.refused import Refused

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

USER_AGENT = f"kofagent/{__version__}"


class Answer:
    """An HTTP answer: at most `limit` bytes of its body are kept."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: CIMultiDictProxy[str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class HttpClient:
    """A pooled client; `start` before the first `request`, `stop` at the end."""

    def __init__(self, settings: HttpClientBlock, context: Context, user_agent: str = USER_AGENT, timed: bool = False) -> None:
        """`timed`: requests may be measured (`net.timing`)."""
        self._settings = settings
        self._context = context
        self._headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._auth: ClientAuth | None = None
        self._level: int | None = None
        self._tls = ClientTls(settings.tls, every=settings.tls.reload_interval or None)
        self._tls_problem = ""
        self._timed = timed
        self._route = Route(self._ssl, self._proxy, settings.tls.server_name_override)
        self._transport = Transport(
            Limits(
                per_host=settings.max_conns_per_host,
                idle_seconds=settings.idle_conn_timeout,
                keep_alive=not settings.disable_keep_alives,
            ),
            cookies=settings.cookies.get("enabled", False),
            traces=traces() if timed else (),
        )
        self._most_idle = min([n for n in (settings.max_idle_conns, settings.max_idle_conns_per_host) if n > 0], default=1 << 30)
        self._kept = 0
        """Requests in progress whose connections will be kept. Their largest number bounds the number of idle connections."""

    async def start(self) -> None:
        """Reads certificates, finds the authenticator; StartError when something is missing."""
        settings = self._settings
        self._tls.check()
        for name, value in settings.headers.items():
            self._headers = {k: v for k, v in self._headers.items() if k.lower() != name.lower()}
            self._headers[name] = value.get_secret_value()
        if settings.auth is not None:
            self._auth = self._context.host.extension(settings.auth.authenticator, ClientAuth)
        self._level = settings.compression_params.get("level")
        await self._transport.start()

    async def stop(self) -> None:
        """Closes all connections."""
        await self._transport.stop()

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
        if not self._transport.running:
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
        keep = self._kept < self._most_idle
        if not keep:
            send["Connection"] = "close"
        self._kept += keep
        seconds = settings.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(seconds or None):
                response = await self._transport.send(method, URL(url), self._route, send, body)
                async with response:
                    said = await read_start(response, limit)
                    return Answer(response.status, response.headers, without_sent(said, send, url) if said else said)
        except TimeoutError:
            raise Refused("timeout", f"no answer within {seconds:g} s") from None
        except FAILURES as error:
            why = failure(error)
            raise Refused(why.kind, why.sentence) from None
        finally:
            self._kept -= keep

    def _ssl(self) -> ssl.SSLContext:
        """The context for the current files. While they are not usable, the last one, with a warning in the log."""
        try:
            context = self._tls.context()
            self._tls_problem = ""
            if self._timed:
                context.sslobject_class = TimedTls
            return context
        except StartError as error:
            last = self._tls.last
            if last is None:
                raise Refused("tls", str(error)) from None
            if self._tls_problem != str(error):
                self._tls_problem = str(error)
                self._context.log.warning("%s; the previous files stay in use", error)
            return last

    def _proxy(self, target: URL) -> str | None:
        return self._settings.proxy_url or _proxy_of(str(target.origin()))


@functools.lru_cache(maxsize=1000)
def _proxy_of(origin: str) -> str | None:
    """The proxy that the environment named at the first request to a server. Refused when it cannot be used."""
    try:
        return environment_proxy(origin)
    except ValueError as error:
        raise Refused("connection", str(error)) from None


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds from now (RFC 9110: seconds or a date); None when absent or unreadable."""
    text = headers.get("Retry-After")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
