"""The HTTP client of scrapes and discovery: Prometheus' options over the agent's transport.

One client per job, so that connections are used again. Every failure is a `FetchError` with a sentence that has no secret in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from yarl import URL

from kofagent.component.protocols import StartError
from kofagent.kubernetes import errors as kubernetes
from kofagent.kubernetes.client import ApiClient
from kofagent.net.body import Meter, NoRoom, read_body
from kofagent.net.compression import CorruptBody, TooLarge, UnknownEncoding
from kofagent.net.transport import FAILURES, Limits, Transport, failure
from kofagent.prometheus.client_config import HttpClientOptions
from kofagent.prometheus.credentials import Credentials, FetchError, route_of, tls_of

__all__ = ["API_NAMES", "BodyTooLarge", "Client", "FetchError", "NoRoom", "Page"]

API_NAMES = frozenset({"kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"})
"""Names of the API server inside a cluster."""


class BodyTooLarge(FetchError):
    """The page is larger than the limit."""


class Page:
    """An answer: status, header names in lower case, and the decompressed body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"


def _shows_the_account(options: HttpClientOptions) -> bool:
    """Whether requests have the token of the pod's account."""
    return options.authorization is not None and options.authorization.credentials_file == ACCOUNT_TOKEN


def _is_api(url: str) -> bool:
    """Whether a URL is that of the API server inside the cluster, not of something else that has its name."""
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.hostname in API_NAMES and parts.port in (None, 443)


class Client:
    """Requests with the options of one job or one discovery. `start` and `stop` belong to the running event loop."""

    def __init__(self, options: HttpClientOptions, user_agent: str, api: ApiClient | None = None) -> None:
        """`api`: asked, with its own access, for what is at the API server's name in the cluster; for agents outside the cluster,
        and only for jobs that would show the API server the token of the agent's account if they ran inside.
        """
        self._agent = user_agent
        self._api = api if _shows_the_account(options) else None
        self._follow = options.follow_redirects
        self._transport = Transport(Limits(dns_seconds=30))
        self._route = route_of(options, tls_of(options.tls_config))
        self._credentials = Credentials(options, user_agent)

    async def start(self) -> None:
        """Opens the pool; no connection yet."""
        await self._transport.start()

    async def stop(self) -> None:
        """Closes all connections."""
        await self._credentials.stop()
        await self._transport.stop()

    async def get(self, url: str, headers: Mapping[str, str], timeout: float, limit: int, meter: Meter | None = None) -> Page:
        """GET `url` within `timeout` seconds, at most `limit` bytes of decompressed body. Raises FetchError.

        `meter` is asked for room for each piece of the body; NoRoom when it has none.
        """
        # hot: scrape, every page comes through here
        if self._api is not None and _is_api(url):
            return await self._through_api(self._api, url, headers, timeout, limit)
        try:
            async with asyncio.timeout(timeout):
                sent = {**headers, "User-Agent": self._agent, **await self._credentials.headers()}
                target = URL(url, encoded=True)
                response = await self._transport.send("GET", target, self._route, sent, follow=self._follow)
                async with response:
                    names = {name.lower(): value for name, value in response.headers.items()}
                    if response.status != HTTPStatus.OK:
                        return Page(response.status, names, b"")
                    return Page(response.status, names, await read_body(response, limit, meter=meter))
        except TimeoutError:
            raise FetchError(f"no complete answer within {timeout:g} s") from None
        except TooLarge:
            raise BodyTooLarge("body size limit exceeded") from None
        except UnknownEncoding as error:
            raise FetchError(f"the body has Content-Encoding {str(error)!r}; only gzip was asked for") from None
        except (CorruptBody, StartError) as error:
            raise FetchError(str(error)) from None
        except (*FAILURES, ValueError) as error:
            raise FetchError(failure(error).sentence) from None

    async def _through_api(self, api: ApiClient, url: str, headers: Mapping[str, str], timeout: float, limit: int) -> Page:
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            plain = {**headers, "Accept-Encoding": "identity"}
            answer = await api.request("GET", path, headers=plain, limit=limit, timeout=timeout)
        except kubernetes.TooLarge:
            raise BodyTooLarge("body size limit exceeded") from None
        except kubernetes.ApiError as error:
            raise FetchError(str(error)) from None
        return Page(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.body)
