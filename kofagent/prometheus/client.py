"""The HTTP client of scrapes and discovery: authentication read anew, TLS, proxies, redirects that keep secrets at home.

One session per job, so that connections are used again. A body is bounded while it is read and while it is decompressed:
a small page that unfolds to gigabytes costs the limit and no more. Every failure is a `FetchError` with a sentence that has
no secret in it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from isal import isal_zlib
from yarl import URL

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import ApiError, TooLarge
from kofagent.net.os_errors import os_reason
from kofagent.net.proxy import environment_proxy, is_direct
from kofagent.prometheus.client_config import HttpClientOptions, OAuth2, ProxyOptions, TlsConfig

MAX_REDIRECTS = 10
API_NAMES = frozenset({"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"})
"""Names of the API server inside a cluster."""
_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE = 1 << 18
_DAMAGED: Any = isal_zlib.error
_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


class FetchError(Exception):
    """A request that brought nothing; the message is a sentence without secrets."""


class BodyTooLarge(FetchError):
    """The page is larger than the limit."""


class Page:
    """An answer: status, header names in lower case, and the decompressed body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Client:
    """Requests with the options of one job or one discovery. `start` and `stop` belong to the running event loop."""

    def __init__(self, options: HttpClientOptions, user_agent: str, api: ApiClient | None = None) -> None:
        """`api`: asked for what is at the API server's name in the cluster, with its own access; for agents outside the cluster."""
        self._options = options
        self._agent = user_agent
        self._api = api
        self._session: aiohttp.ClientSession | None = None
        self._tls = TlsFiles(options.tls_config)
        self._oauth = OAuthToken(options.oauth2, user_agent) if options.oauth2 is not None else None

    async def start(self) -> None:
        """Opens the session; no connection yet."""
        self._session = _session()

    async def stop(self) -> None:
        """Closes all connections."""
        if self._oauth is not None:
            await self._oauth.stop()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, url: str, headers: Mapping[str, str], timeout: float, limit: int) -> Page:
        """GET `url` within `timeout` seconds, at most `limit` bytes of decompressed body. Raises FetchError."""
        if self._api is not None and urlsplit(url).hostname in API_NAMES:
            return await self._through_api(self._api, url, headers, timeout, limit)
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(url, headers, limit)
        except TimeoutError:
            raise FetchError(f"no complete answer within {timeout:g} s") from None
        except FetchError:
            raise
        except aiohttp.ClientConnectorCertificateError as error:
            raise FetchError(f"the certificate of {urlsplit(url).netloc} is not trusted: {error.certificate_error}") from None
        except (aiohttp.ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise FetchError(_sentence(error)) from None

    async def _through_api(self, api: ApiClient, url: str, headers: Mapping[str, str], timeout: float, limit: int) -> Page:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            plain = {**headers, "Accept-Encoding": "identity"}
            answer = await api.request("GET", path, headers=plain, limit=limit, timeout=timeout)
        except TooLarge:
            raise BodyTooLarge("body size limit exceeded") from None
        except ApiError as error:
            raise FetchError(str(error)) from None
        return Page(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.body)

    async def _follow(self, url: str, headers: Mapping[str, str], limit: int) -> Page:
        assert self._session is not None, "not started"
        private = await self._private_headers()
        target = URL(url, encoded=True)
        home = target.origin()
        for _ in range(MAX_REDIRECTS + 1):
            sent = {**headers, "User-Agent": self._agent}
            if target.origin() == home:
                for name, values in private.items():
                    sent[name] = ", ".join(values)
            async with self._session.get(target, headers=sent, allow_redirects=False, **self._transport(target)) as response:
                place = response.headers.get("Location")
                if response.status in _REDIRECTS and place and self._options.follow_redirects:
                    target = target.join(URL(place))
                    if target.scheme not in ("http", "https") or not target.host:
                        raise FetchError("a redirect to something that is not http or https")
                    continue
                names = {name.lower(): value for name, value in response.headers.items()}
                if response.status != HTTPStatus.OK:
                    return Page(response.status, names, b"")
                return Page(response.status, names, await _body(response, limit))
        raise FetchError(f"more than {MAX_REDIRECTS} redirects")

    def _transport(self, target: URL) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if target.scheme == "https":
            out["ssl"] = self._tls.context()
            if self._options.tls_config.server_name:
                out["server_hostname"] = self._options.tls_config.server_name
        proxy = proxy_for(self._options, target)
        if proxy:
            out["proxy"] = proxy
            out["proxy_headers"] = {
                name: ", ".join(v.get_secret_value() for v in values) for name, values in self._options.proxy_connect_header.items()
            } or None
        return out

    async def credentials(self) -> dict[str, str]:
        """The headers that stay with the host they were meant for, as they are now. Raises FetchError."""
        return {name: ", ".join(values) for name, values in (await self._private_headers()).items()}

    async def _private_headers(self) -> dict[str, list[str]]:
        """Headers that stay with the host they were meant for."""
        options = self._options
        out: dict[str, list[str]] = {}
        for name, header in options.http_headers.items():
            out[name] = [
                *header.values,
                *[s.get_secret_value() for s in header.secrets],
                *[read_secret(path, f"http_headers {name}") for path in header.files],
            ]
        if options.basic_auth is not None:
            basic = options.basic_auth
            user = read_secret(basic.username_file, "username_file") if basic.username_file else basic.username
            password = (
                read_secret(basic.password_file, "password_file") if basic.password_file else basic.password.get_secret_value()
            )
            out["Authorization"] = ["Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()]
        elif options.authorization is not None:
            way = options.authorization
            credentials = (
                read_secret(way.credentials_file, "credentials_file")
                if way.credentials_file
                else way.credentials.get_secret_value()
            )
            out["Authorization"] = [f"{way.type} {credentials}".strip()]
        elif self._oauth is not None:
            out["Authorization"] = [await self._oauth.header()]
        return out


class OAuthToken:
    """The access token of the client credentials flow, fetched when needed and again before it ends."""

    def __init__(self, options: OAuth2, user_agent: str) -> None:
        self._options = options
        self._agent = user_agent
        self._tls = TlsFiles(options.tls_config)
        self._session: aiohttp.ClientSession | None = None
        self._header = ""
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def stop(self) -> None:
        """Closes the connection to the token server."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def header(self) -> str:
        """The Authorization header. Raises FetchError."""
        async with self._lock:
            if time.monotonic() >= self._until:
                await self._fetch()
            return self._header

    async def _fetch(self) -> None:
        options = self._options
        secret = (
            read_secret(options.client_secret_file, "client_secret_file")
            if options.client_secret_file
            else options.client_secret.get_secret_value()
        )
        form = {"grant_type": "client_credentials", **options.endpoint_params}
        if options.scopes:
            form["scope"] = " ".join(options.scopes)
        if options.audience:
            form["audience"] = options.audience
        if self._session is None:
            self._session = _session()
        target = URL(options.token_url)
        transport: dict[str, Any] = {"ssl": self._tls.context()} if target.scheme == "https" else {}
        if options.tls_config.server_name and transport:
            transport["server_hostname"] = options.tls_config.server_name
        proxy = proxy_for(options, target)
        if proxy:
            transport["proxy"] = proxy
        basic = base64.b64encode(f"{_form(options.client_id)}:{_form(secret)}".encode()).decode()
        headers = {"User-Agent": self._agent, "Authorization": "Basic " + basic, "Accept-Encoding": "identity"}
        async with self._session.post(target, data=form, headers=headers, allow_redirects=False, **transport) as response:
            body = await _body(response, 1 << 20)
            if response.status // 100 != 2:
                raise FetchError(f"oauth2: the token server answered {response.status}")
        import json

        try:
            answer = json.loads(body)
            token, kind = answer["access_token"], str(answer.get("token_type") or "Bearer")
            life = float(answer.get("expires_in") or 3600)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FetchError("oauth2: the token server's answer has no access_token") from None
        self._header = f"{'Bearer' if kind.lower() == 'bearer' else kind} {token}"
        self._until = time.monotonic() + max(life - 10, 1)


def _form(text: str) -> str:
    from urllib.parse import quote_plus

    return quote_plus(text)


class TlsFiles:
    """An SSL context that is made again when one of its files changed."""

    def __init__(self, options: TlsConfig) -> None:
        self._options = options
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[object, ...] = ()

    def context(self) -> ssl.SSLContext:
        """The context for the files as they are now. Raises FetchError naming the file that does not fit."""
        stamp = tuple(_stamp(path) for path in (self._options.ca_file, self._options.cert_file, self._options.key_file))
        if self._context is None or stamp != self._stamp:
            self._context = _ssl_context(self._options)
            self._stamp = stamp
        return self._context


def _stamp(path: str) -> object:
    if not path:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _ssl_context(options: TlsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS.get(options.min_version, ssl.TLSVersion.TLSv1_2)
    if options.max_version:
        context.maximum_version = _VERSIONS[options.max_version]
    if options.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if options.ca or options.ca_file:
            context.load_verify_locations(cafile=options.ca_file or None, cadata=options.ca or None)
        else:
            context.load_default_certs()
    except (OSError, ssl.SSLError) as error:
        raise FetchError(f"tls_config: ca_file {options.ca_file}: {_sentence(error)}") from None
    if options.cert or options.cert_file:
        with tempfile.TemporaryDirectory() as folder:
            # The ssl module reads certificates from files only; these exist for a moment, readable by this user alone.
            cert = options.cert_file or _write(folder, "cert.pem", options.cert)
            key = options.key_file or _write(folder, "key.pem", options.key.get_secret_value())
            try:
                context.load_cert_chain(cert, key)
            except (OSError, ssl.SSLError) as error:
                raise FetchError(
                    f"tls_config: cert_file {options.cert_file}, key_file {options.key_file}: {_sentence(error)}"
                ) from None
    return context


def _write(folder: str, name: str, text: str) -> str:
    path = os.path.join(folder, name)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(text)
    return path


def read_secret(path: str, what: str) -> str:
    """The content of a small file without the newline at its end. Raises FetchError naming the file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1 << 20).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise FetchError(f"{what} {path}: {reason}") from None


def proxy_for(options: ProxyOptions, target: URL) -> str | None:
    """URL of the proxy to use for a target, None for a direct connection."""
    if options.proxy_from_environment:
        return environment_proxy(str(target))
    if not options.proxy_url or (options.no_proxy and is_direct(options.no_proxy, target)):
        return None  # without no_proxy even localhost goes through the proxy, as in Prometheus
    return options.proxy_url


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, enable_cleanup_closed=False, ttl_dns_cache=30),
        auto_decompress=False,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("Accept", "Accept-Encoding"),
    )


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The decompressed body, at most `limit` bytes. Raises BodyTooLarge."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        if response.content_length is not None and response.content_length > limit:
            response.close()
            raise BodyTooLarge("body size limit exceeded")
        return await _plain(response, limit)
    if encoding != "gzip":
        raise FetchError(f"the body has Content-Encoding {encoding[:30]!r}; only gzip was asked for")
    unpacker = isal_zlib.decompressobj(wbits=31)
    pieces: list[bytes] = []
    left = limit
    try:
        async for piece in response.content.iter_any():
            while piece:
                if unpacker.eof:
                    # Several members in a row are one stream (RFC 1952, section 2.2).
                    unpacker = isal_zlib.decompressobj(wbits=31)
                out = unpacker.decompress(piece, min(left + 1, _PIECE))
                piece = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                left -= len(out)
                pieces.append(out)
                if left < 0:
                    response.close()
                    raise BodyTooLarge("body size limit exceeded")
        while not unpacker.eof:
            out = unpacker.decompress(b"", min(left + 1, _PIECE))
            if not out:
                break
            left -= len(out)
            pieces.append(out)
            if left < 0:
                raise BodyTooLarge("body size limit exceeded")
    except _DAMAGED as error:
        raise FetchError(f"the gzip body is damaged: {error}") from None
    if not unpacker.eof:
        raise FetchError("the gzip body is cut off")
    return b"".join(pieces)


async def _plain(response: aiohttp.ClientResponse, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > limit:
            response.close()
            raise BodyTooLarge("body size limit exceeded")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _sentence(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port}: {os_reason(error.os_error)}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer is cut off"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__
