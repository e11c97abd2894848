"""A small client of the Kubernetes API: objects, lists in pages, watch streams, requests through the API server's proxy.

Errors are exceptions of `kofagent.kubernetes.errors`. At most `UNDER_WAY` requests wait for an answer at a time (open watches do
not count), every body has a limit, and a 401 is tried once more when the credentials have changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kofagent import __version__
from kofagent.component.protocols import Host
from kofagent.kubernetes import errors
from kofagent.kubernetes.access import Access
from kofagent.kubernetes.choose import find
from kofagent.kubernetes.errors import ApiError, Gone, NoCredentials, TooLarge, Unreachable, Untrusted
from kofagent.kubernetes.lists import split_list
from kofagent.kubernetes.options import ApiOptions
from kofagent.kubernetes.resources import Resource
from kofagent.net import compression as net
from kofagent.net.body import read_body, read_start
from kofagent.net.client import Answer, retry_after_seconds
from kofagent.net.transport import FAILURES, Limits, Route, Transport, failure
from kofagent.wire.foreign_json import read_json

UNDER_WAY = 10
_OPEN = contextlib.nullcontext()
PAGE = 250
"""Objects asked for at a time: a page of pods is some 2 MB of JSON, held twice while it is read."""
BODY_LIMIT = 64 << 20
LIST_LIMIT = 16 << 20
"""Largest page of a list; when a page is larger, smaller pages are requested."""
LINE_LIMIT = 16 << 20
"""Largest object in a watch stream; etcd holds at most 1.5 MiB of one."""
REQUEST_TIMEOUT = 60.0
LIST_TIMEOUT = 300.0
"""For a whole page over a slow line; without a byte for `REQUEST_TIMEOUT` it is given up earlier."""
CONNECT_TIMEOUT = 10.0
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

Params = Mapping[str, "str | int"]


class Page:
    """A page of a list: objects one by one as they are read (`items` can be read once), then where the list continues."""

    __slots__ = ("continue_token", "items", "version")

    def __init__(self, text: str) -> None:
        self.items, metadata = split_list(text)
        self.version = str(metadata.get("resourceVersion") or "")
        self.continue_token = str(metadata.get("continue") or "")


class ApiClient:
    """Connections to one API server. `start` and `stop` are counted: the last `stop` closes them, `start` opens them again."""

    def __init__(
        self, access: Access, user_agent: str = f"kofagent/{__version__}", *, connect_timeout: float = CONNECT_TIMEOUT
    ) -> None:
        self.access = access
        self._agent = user_agent
        self._transport = Transport(Limits(idle_seconds=60.0, connect_seconds=connect_timeout))
        self._started = 0
        self._under_way = asyncio.Semaphore(UNDER_WAY)
        self.informers: dict[Any, Any] = {}
        """Running informers by what they read; owned by `informer.py`."""
        self.unreachable: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        """Who cannot reach the server now, and why; owned by `watch.py`, which says it once for all."""

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped by all its users."""
        return self._transport.running

    async def start(self) -> None:
        """Opens the pool of connections. Does not talk to the server."""
        self._started += 1
        if not self._transport.running:
            await self._transport.start()

    async def stop(self) -> None:
        """Undoes one `start`."""
        if self._started == 0:
            return
        self._started -= 1
        if self._started == 0:
            await self._transport.stop()
            await self.access.close()

    async def get(
        self,
        path: str,
        params: Params | None = None,
        *,
        resource: Resource | None = None,
        namespace: str = "",
        name: str = "",
        limit: int = BODY_LIMIT,
        timeout: float = REQUEST_TIMEOUT,
    ) -> Any:
        """The JSON of a path; ApiError when the answer is not 2xx. `resource`, `namespace` and `name` make its message better."""
        answer = await self.request("GET", path, params, limit=limit, timeout=timeout)
        if not 200 <= answer.status < 300:
            raise _error(answer, "get", path, resource, namespace, name)
        return _json(answer.body)

    async def get_object(self, resource: Resource, name: str, namespace: str = "") -> Any:
        """One object."""
        return await self.get(resource.path(namespace, name), resource=resource, namespace=namespace, name=name)

    async def request(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        limit: int = BODY_LIMIT,
        timeout: float = REQUEST_TIMEOUT,
    ) -> Answer:
        """Any request, also through the API server's proxy (`/api/v1/nodes/x/proxy/metrics`): the answer whatever its status.

        `body` is sent as JSON. Raises Unreachable and TooLarge.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            async with self._under_way, asyncio.timeout(timeout), self._open(method, path, params, headers or {}, data) as response:
                return Answer(response.status, response.headers, await read_body(response, limit, REQUEST_TIMEOUT))
        except net.TooLarge:
            raise TooLarge(limit) from None
        except TimeoutError:
            raise Unreachable(f"no answer from {self.access.server} within {timeout:g} s") from None

    async def list_page(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = PAGE,
        continue_token: str = "",
        version: str = "",
        only_metadata: bool = False,
    ) -> Page:
        """One page of a list. Raises Gone when the `continue` token `continue_token` has expired."""
        params: dict[str, str | int] = {"limit": limit}
        for name, value in (
            ("labelSelector", label_selector),
            ("fieldSelector", field_selector),
            ("continue", continue_token),
            ("resourceVersion", version),
        ):
            if value:
                params[name] = value
        headers = {"Accept": _METADATA_LIST} if only_metadata else None
        answer = await self.request(
            "GET", resource.path(namespace), params, headers=headers, limit=LIST_LIMIT, timeout=LIST_TIMEOUT
        )
        if not 200 <= answer.status < 300:
            raise _error(answer, "list", str(resource), resource, namespace, _one_name(answer, namespace, field_selector))
        try:
            return Page(answer.body.decode())
        except ValueError:
            raise Unreachable(f"{self.access.server} answered something that is not a list of {resource.plural}") from None

    async def list_pages(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = "", limit: int = PAGE
    ) -> AsyncIterator[Page]:
        """All pages of one consistent list, smaller ones where their objects are large.

        Raises Gone when the list expired on the way: begin again.
        """
        continue_token = ""
        while True:
            try:
                page = await self.list_page(
                    resource,
                    namespace,
                    label_selector=label_selector,
                    field_selector=field_selector,
                    limit=limit,
                    continue_token=continue_token,
                )
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)
                continue
            yield page
            continue_token = page.continue_token
            if not continue_token:
                return

    async def list_all(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = "", limit: int = PAGE
    ) -> list[dict[str, Any]]:
        """All objects at once; begins again when the list expires on the way. For small lists."""
        for last in (False, False, True):
            found: list[dict[str, Any]] = []
            try:
                async for page in self.list_pages(
                    resource, namespace, label_selector=label_selector, field_selector=field_selector, limit=limit
                ):
                    found += page.items
                return found
            except Gone:
                if last:
                    raise
        raise AssertionError

    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        version: str,
        label_selector: str = "",
        field_selector: str = "",
        seconds: float = 240,
        margin: float = 15,
        only_metadata: bool = False,
        opened: Callable[[], None] | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a watch from resource version `version` on: {"type": ..., "object": ...}, bookmarks among them.
        `opened` is called once the server has agreed to it.

        Ends when the server ends it, which it does after `seconds`. Raises Gone (by status or in the stream), another ApiError,
        or Unreachable when the connection breaks or says nothing for `seconds` + `margin`.
        """
        params: dict[str, str | int] = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": max(1, int(seconds)),
        }
        if label_selector:
            params["labelSelector"] = label_selector
        if field_selector:
            params["fieldSelector"] = field_selector
        headers = {"Accept": _METADATA} if only_metadata else {}
        async with self._open("GET", resource.path(namespace), params, headers, None, gate=self._under_way) as response:
            if not 200 <= response.status < 300:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    body = await read_start(response, 1 << 16)
                answer = Answer(response.status, response.headers, body)
                raise _error(answer, "watch", str(resource), resource, namespace, _one_name(answer, namespace, field_selector))
            if opened is not None:
                opened()
            async for line in _lines(response, seconds + margin, self.access.server):
                event = _json(line)
                if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
                    raise Unreachable(f"{self.access.server} sent something that is not a watch event")
                if event.get("type") == "ERROR":
                    raise errors.from_object(event["object"], "watch", str(resource), resource, namespace)
                yield event

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        params: Params | None,
        headers: Mapping[str, str],
        data: bytes | None,
        gate: asyncio.Semaphore | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request and gives its answer with the body unread; a broken connection at any time is Unreachable."""
        if not self._transport.running:
            raise Unreachable("the client is stopped")
        access = self.access
        url = URL(access.server + path)
        if params:
            url = url.update_query(params)
        try:
            for attempt in (1, 2):
                send = CIMultiDict({"User-Agent": self._agent, "Accept": "application/json", "Accept-Encoding": "identity"})
                if data is not None:
                    send["Content-Type"] = "application/json"
                send.update(headers)
                own, tls = await self.credentials()
                send.extend(own)
                route = Route(lambda tls=tls: tls, lambda _: access.proxy, access.server_hostname or "")  # type: ignore[misc]
                async with gate or _OPEN, asyncio.timeout(REQUEST_TIMEOUT):
                    response = await self._transport.send(method, url, route, send, body=data, follow=False)
                if response.status == 401 and attempt == 1 and await self._other_credentials(own):
                    response.close()
                    continue
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    response.close()
                    raise Unreachable(f"{access.server} compressed its answer, which was not asked for")
                try:
                    yield response
                finally:
                    # A body read to its end has given its connection back by itself; any other one must not be used again.
                    response.close()
                return
        except TimeoutError:
            raise Unreachable(f"no answer from {access.server} within {REQUEST_TIMEOUT:g} s") from None
        except FAILURES as error:
            why = failure(error)
            kind = Untrusted if why.kind == "tls" else Unreachable
            place = "cannot connect to the proxy: " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
            raise kind(f"{access.server}: {place}{why.reason}") from None

    async def credentials(self) -> tuple[Mapping[str, str], ssl.SSLContext | bool]:
        """Headers and TLS context of a request now; NoCredentials without any, also if a plugin takes too long."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                return await self.access.headers(), await self.access.tls()
        except TimeoutError:
            raise NoCredentials(f"{self.access.server}: no credentials within {REQUEST_TIMEOUT:g} s") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if isinstance(error, OSError) and error.filename:
                reason = f"{error.filename}: {reason}"
            raise NoCredentials(f"{self.access.server}: no credentials: {reason}") from None

    async def _other_credentials(self, refused: Mapping[str, str]) -> bool:
        """Whether there are others than those refused: another request's 401 may have loaded them already."""
        now, _ = await self.credentials()
        return now.get("Authorization") != refused.get("Authorization") or self.access.rejected()


def shared(host: Host, options: ApiOptions) -> ApiClient:
    """The client for these options: components with equal ones get the same client. StartError when none can be made.

    Each user calls `start` and `stop` on it.
    """
    return shared_access(host, (options.auth_type, options.context), lambda: find(options, host.kubeconfig))


def shared_access(host: Host, key: Hashable, make: Callable[[], Access]) -> ApiClient:
    """The same for an own way of access: `make()` returns the Access of `key` when it is first asked for."""
    return host.common(("kubernetes client", key), lambda: ApiClient(make()))


async def _lines(response: aiohttp.ClientResponse, silence: float, server: str) -> AsyncIterator[bytes]:
    """The lines of a watch stream; Unreachable when no byte comes for `silence` seconds."""
    waiting = bytearray()
    while True:
        try:
            async with asyncio.timeout(silence):
                chunk = await response.content.readany()
        except TimeoutError:
            raise Unreachable(f"the watch of {server} said nothing for {silence:g} s") from None
        if not chunk:
            return  # an incomplete last line is dropped: the version has not advanced, so the event comes again
        at = chunk.find(b"\n")
        if at < 0:
            waiting += chunk
        else:
            lines = (bytes(waiting) + chunk).split(b"\n") if waiting else chunk.split(b"\n")
            waiting = bytearray(lines.pop())
            for line in lines:
                if line:
                    yield line
        if len(waiting) > LINE_LIMIT:
            raise TooLarge(LINE_LIMIT)


def _json(data: bytes) -> Any:
    try:
        return read_json(data)
    except ValueError:
        raise Unreachable("the API server answered something that is not JSON") from None


def _error(answer: Answer, verb: str, what: str, resource: Resource | None, namespace: str, name: str = "") -> ApiError:
    return errors.from_status(
        answer.status, answer.body[:65536], verb, what, resource, namespace, retry_after_seconds(answer.headers), name
    )


def one_object(field_selector: str) -> str:
    """The name of the one object that a field selector leaves; empty when it may leave several."""
    name = field_selector.removeprefix("metadata.name=")
    return name if name != field_selector and "," not in name else ""


def _one_name(answer: Answer, namespace: str, field_selector: str) -> str:
    """The name of the one object that was refused, which the rule to add can be narrowed to. Not without a namespace: each agent
    asks for its own node, and they share a role."""
    return one_object(field_selector) if answer.status == 403 and namespace else ""
