"""Follows a resource for ever: lists it in pages, watches it, lists it again when the API has forgotten where we were.

410, by status or in the stream, means list again at once (unless lists keep expiring without anything between them); every other
error waits from 1 s to 30 s, doubling with jitter. A watch that says nothing past its time is dead. Bookmarks move the resource
version. This is the one loop under informers and event receivers.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from kofagent.component.backoff import MOST_ASKED, Backoff
from kofagent.kubernetes.client import PAGE, ApiClient, one_object
from kofagent.kubernetes.errors import ApiError, Forbidden, Gone, NotFound, TooLarge, Unauthorized, Unreachable
from kofagent.kubernetes.resources import Resource

log = logging.getLogger("kofagent.kubernetes")

FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
WATCH_SECONDS = (240.0, 360.0)
"""How long the server is asked to keep a watch open: somewhere between, so that not all agents come back at once."""
SILENCE_MARGIN = 15.0
LARGEST_PAGE = 8000

Kind = Literal["LISTING", "ITEM", "LISTED", "ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


class Event(NamedTuple):
    """One step. LISTING begins a list (also again, when it expired half-way), each ITEM is one of its objects, LISTED ends it:
    what was known and not among the items is gone. Then come the watch's own types. `version` is the resource version that is
    reached with it, empty for LISTING and ITEM.
    """

    type: Kind
    object: dict[str, Any]
    version: str


@dataclass(frozen=True, slots=True)
class Query:
    """What is read."""

    resource: Resource
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""

    def __str__(self) -> str:
        name = one_object(self.field_selector)
        return f"{self.resource} {self.namespace}/{name}" if name and self.namespace else str(self.resource)


@dataclass(slots=True)
class Timing:
    """Seconds, changed by tests only."""

    first_wait: float = FIRST_WAIT
    longest_wait: float = LONGEST_WAIT
    watch_seconds: tuple[float, float] = WATCH_SECONDS
    margin: float = SILENCE_MARGIN
    without_bookmark: float = 150.0
    """A watch that lasted longer and brought nothing at all, no bookmark either, is followed by a list."""

    def backoff(self) -> Backoff:
        """The waits after errors."""
        return Backoff(self.first_wait, self.longest_wait, asked_most=MOST_ASKED)


async def follow(
    client: ApiClient,
    query: Query,
    *,
    version: str = "",
    report: Callable[[str | None], None] | None = None,
    only_metadata: bool = False,
    timing: Timing | None = None,
    page: int = PAGE,
) -> AsyncGenerator[Event, None]:
    """Everything that happens to the objects of `query`, for ever; close it with `aclosing`.

    With `version` it continues from there without a list first (what a receiver kept over a restart); where the API no longer
    knows it, a list comes. The consumer's slowness holds the stream back. `report` gets a sentence when it does not work and
    None when it works again.
    """
    timing = timing or Timing()
    backoff = timing.backoff()
    health = _Health(client, query, report)
    now = asyncio.get_running_loop().time
    last_gone = -1e9
    while True:
        try:
            if not version:
                async with aclosing(_list(client, query, only_metadata, page)) as listing:
                    async for event in listing:
                        yield event
                        version = event.version
            began, got = now(), 0
            watch = client.watch(
                query.resource,
                query.namespace,
                version=version,
                label_selector=query.label_selector,
                field_selector=query.field_selector,
                seconds=random.uniform(*timing.watch_seconds),
                margin=timing.margin,
                only_metadata=only_metadata,
                opened=health.well,
            )
            async with aclosing(watch) as events:
                async for raw in events:
                    reached = str((raw["object"].get("metadata") or {}).get("resourceVersion") or "")
                    if not reached or raw.get("type") not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
                        continue
                    if _before(reached, version):
                        log.warning(
                            "%s: resource version %s after %s: the API server's history has restarted, listing again",
                            query.resource,
                            reached,
                            version,
                        )
                        version = ""
                        break
                    if not got:
                        backoff.reset()
                    got += 1
                    version = reached
                    yield Event(raw["type"], raw["object"], version)
            lasted = now() - began
            if not got and lasted < timing.first_wait:
                # A server or proxy that ends every watch at once must not be asked in a tight loop.
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            if not got and lasted > timing.without_bookmark:
                # API servers send bookmarks about every minute; one that waits for a version of before a restore sends nothing.
                version = ""
        except Gone as error:
            log.info("%s: resource version %s has expired, listing again", query.resource, version or "of the list")
            if not version:
                page = min(page * 4, LARGEST_PAGE)  # the list took longer than versions are kept
            version = ""
            if now() - last_gone < 10 * timing.first_wait:
                health.bad(error)
                await asyncio.sleep(backoff.next())
            last_gone = now()
        except TooLarge as error:
            if version or page == 1:
                health.bad(error)
                await asyncio.sleep(backoff.next())
            page = max(1, page // 4)
            version = ""
        except ApiError as error:
            health.bad(error)
            # 403 too: an API server that has just started refuses everything until it has read its roles
            await asyncio.sleep(backoff.next(error.retry_after))


def _before(version: str, other: str) -> bool:
    """Whether a resource version is older; Kubernetes allows to compare them as numbers within one resource."""
    return version.isdecimal() and other.isdecimal() and int(version) < int(other)


async def _list(client: ApiClient, query: Query, only_metadata: bool, size: int) -> AsyncGenerator[Event, None]:
    yield Event("LISTING", {}, "")
    resource = query.resource
    kind = {"apiVersion": resource.api_version, "kind": resource.kind} if resource.kind else {}
    continue_token = ""
    while True:
        page = await client.list_page(
            resource,
            query.namespace,
            label_selector=query.label_selector,
            field_selector=query.field_selector,
            limit=size,
            continue_token=continue_token,
            only_metadata=only_metadata,
        )
        try:
            for item in page.items:
                yield Event("ITEM", {**kind, **item}, "")
        except (ValueError, TypeError):
            raise Unreachable(f"the list of {resource.plural} is not what the API sends") from None
        continue_token = page.continue_token
        if not continue_token:
            yield Event("LISTED", {}, page.version)
            return


class _Health:
    """Tells of trouble once, and of its end. One broken connection is no trouble yet: watches end all the time.

    A server that is away is logged once for all that is read from it.
    """

    def __init__(self, client: ApiClient, query: Query, report: Callable[[str | None], None] | None) -> None:
        self._client = client
        self._query = query
        self._report = report
        self._said = ""
        self._away = False
        self._failures = self._refusals = 0
        self._worked = False

    def bad(self, error: ApiError) -> None:
        if isinstance(error, Forbidden | Unauthorized | NotFound):
            # Refused from the start is refused; what worked before is refused for a moment by an API server that starts again.
            self._refusals += 1
            if self._worked and self._refusals < 3:
                return
        else:
            self._failures += 1
            if self._failures < 2:
                return
        text = str(error)
        if text == self._said:
            return
        self._said = text
        away = self._client.unreachable
        self._away = isinstance(error, Unreachable)
        if not self._away:
            away.pop(self, None)
            log.error(f"{self._query}: {text}")  # not a template: the log's sampling takes lines of one template for repetitions
        else:
            if text not in away.values():
                log.error("%s: %s (logged once for everything that is read from there)", self._query, text)
            away[self] = text
        if self._report is not None:
            self._report(text)

    def well(self) -> None:
        self._failures = self._refusals = 0
        self._worked = True
        if self._said:
            self._said = ""
            if not self._away:
                log.info("%s: the API server returns it again", self._query)
            elif self in self._client.unreachable:
                self._client.unreachable.clear()
                log.info("the API server answers again")
            if self._report is not None:
                self._report(None)
