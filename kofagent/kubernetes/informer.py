"""Caches of the objects of a resource that follow the API server, shared by everyone in a service who reads the same.

    subscription = subscribe(client, PODS, field_selector="spec.nodeName=n1", fields=("metadata.labels", "status.podIP"),
                             on_add=..., on_update=..., on_delete=..., report=...)
    await subscription.synced.wait()
    pod = subscription.get("default", "web-0")
    await subscription.stop()

The client must be started. Objects are cut down to the union of all subscribers' fields. They are kept packed (`store.py`): each
look into the store gives a fresh copy, so a reader keeps what it needs of an object, not the object. Handlers are called in the
event loop, must be quick and change no object; each sees a consistent history: an object is added before it is updated or
deleted, and one that was replaced under the same name is deleted and added. What happened while there was no connection is reported
after the next list.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing

from kofagent.kubernetes.client import PAGE, ApiClient
from kofagent.kubernetes.resources import Resource
from kofagent.kubernetes.store import PackedStore
from kofagent.kubernetes.trim import ALL, Field, Object, Trimmer, covers, union
from kofagent.kubernetes.watch import LONGEST_WAIT, Event, Query, Timing, follow

__all__ = ["ALL", "Informer", "Subscription", "key_of", "subscribe"]

log = logging.getLogger("kofagent.kubernetes")

OnOne = Callable[[Object], None]
OnTwo = Callable[[Object, Object], None]


def key_of(obj: Object) -> str:
    """`namespace/name`, or `name` of an object without namespace."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])


class Subscription:
    """One reader of an informer."""

    def __init__(
        self,
        informer: Informer,
        fields: frozenset[tuple[str, ...]],
        on_add: OnOne | None,
        on_update: OnTwo | None,
        on_delete: OnOne | None,
        report: Callable[[str | None], None] | None,
    ) -> None:
        self.informer = informer
        self.fields = fields
        self.synced = asyncio.Event()
        """Set when everything that existed at the start is in the store and was told."""
        self._on_add = on_add
        self._on_update = on_update
        self._on_delete = on_delete
        self.report = report
        self.live = False
        """Whether handlers are called; False until a list with the fields it needs has begun or ended."""

    @property
    def store(self) -> Mapping[str, Object]:
        """All objects by `key_of`, as they are now; each is unpacked when it is looked at."""
        return self.informer.store

    def get(self, namespace: str, name: str) -> Object | None:
        """One object; None when it is not there (or not yet)."""
        return self.informer.store.get(f"{namespace}/{name}" if namespace else name)

    async def stop(self) -> None:
        """No handler is called from now on. The last subscription stops the watch."""
        await self.informer.leave(self)

    def added(self, obj: Object) -> None:
        """Tells the handler, as `updated` and `deleted`; called by the informer."""
        if self._on_add is not None:
            _call(self._on_add, obj)

    def updated(self, old: Object, new: Object) -> None:
        if self._on_update is not None:
            _call(self._on_update, old, new)

    def deleted(self, obj: Object) -> None:
        if self._on_delete is not None:
            _call(self._on_delete, obj)


class Informer:
    """The cache of one query. Use `subscribe`."""

    def __init__(self, client: ApiClient, query: Query, timing: Timing | None = None, page: int = PAGE) -> None:
        self.client = client
        self.query = query
        self.store = PackedStore()
        self.version = ""
        """Resource version reached; empty before the first list has ended."""
        self.error: str | None = None
        """Why it does not work now; None when it does."""
        self._timing = timing
        self._page = page
        self._trim = Trimmer(())
        self._subscriptions: list[Subscription] = []
        self._task: asyncio.Task[None] | None = None
        self._seen: set[str] | None = None

    def join(self, subscription: Subscription) -> None:
        """Adds a reader; where it needs fields that the cache does not hold, everything is listed again."""
        subs = self._subscriptions
        subs.append(subscription)
        if not covers(self._trim.fields, subscription.fields):
            self._trim = Trimmer(union(*(s.fields for s in subs)))
            self._restart()
        elif self._task is None:
            self._restart()
        elif self.version:
            self._go_live(subscription)
        if self.error is not None and subscription.report is not None:
            subscription.report(self.error)

    async def leave(self, subscription: Subscription) -> None:
        """Takes a reader away."""
        if subscription not in self._subscriptions:
            return
        self._subscriptions.remove(subscription)
        if self._subscriptions:
            return
        if self.client.informers.get(self.query) is self:
            del self.client.informers[self.query]
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.store.clear()

    def _go_live(self, subscription: Subscription) -> None:
        if not subscription.live:
            subscription.live = True
            for obj in self.store.values():
                subscription.added(obj)
        subscription.synced.set()

    def _restart(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.version = ""
        self._task = asyncio.create_task(self._run(), name=f"watch {self.query.resource}")

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except Exception:  # a bug must not end a watch that others share
                log.exception("%s: the watch failed, beginning again", self.query.resource)
                await asyncio.sleep(LONGEST_WAIT)

    async def _follow(self) -> None:
        events = follow(
            self.client,
            self.query,
            report=self._report,
            only_metadata=self._trim.only_metadata,
            timing=self._timing,
            page=self._page,
        )
        async with aclosing(events):
            async for event in events:
                try:
                    self._take(event)
                except (KeyError, TypeError, AttributeError):
                    log.error("%s: an object without a name was left out", self.query.resource)

    def _take(self, event: Event) -> None:
        kind = event.type
        if kind == "ITEM":
            key = self._put(event.object)
            assert self._seen is not None
            self._seen.add(key)
        elif kind in ("ADDED", "MODIFIED"):
            self._put(event.object)
        elif kind == "DELETED":
            self._remove(key_of(event.object))
        elif kind == "LISTING":
            self._seen = set()
            if not self.store:
                for subscription in self._subscriptions:
                    subscription.live = True
        elif kind == "LISTED":
            seen, self._seen = self._seen, None
            assert seen is not None
            for key in [k for k in self.store if k not in seen]:
                self._remove(key)
            self.version = event.version
            for subscription in list(self._subscriptions):
                self._go_live(subscription)
        if event.version:
            self.version = event.version

    def _put(self, source: Object) -> str:
        new = self._trim(source)
        key = key_of(new)
        changed, old = self.store.put(key, new)
        if not changed:
            return key
        replaced = old is not None and old["metadata"].get("uid") != new["metadata"].get("uid")
        for subscription in self._live():
            if old is None:
                subscription.added(new)
            elif replaced:
                subscription.deleted(old)
                subscription.added(new)
            else:
                subscription.updated(old, new)
        return key

    def _remove(self, key: str) -> None:
        old = self.store.pop(key)
        if old is not None:
            for subscription in self._live():
                subscription.deleted(old)

    def _live(self) -> list[Subscription]:
        return [s for s in self._subscriptions if s.live]

    def _report(self, error: str | None) -> None:
        self.error = error
        for subscription in list(self._subscriptions):
            if subscription.report is not None:
                subscription.report(error)


def subscribe(
    client: ApiClient,
    resource: Resource,
    *,
    namespace: str = "",
    label_selector: str = "",
    field_selector: str = "",
    fields: Iterable[Field] = (),
    on_add: OnOne | None = None,
    on_update: OnTwo | None = None,
    on_delete: OnOne | None = None,
    report: Callable[[str | None], None] | None = None,
    timing: Timing | None = None,
    page: int = PAGE,
) -> Subscription:
    """Reads a resource through the informer that equal queries share; starts at once, in the running loop.

    `fields` are the paths needed in addition to name, namespace and uid (`trim.py`); updates that change none of the cached
    fields are not reported. `report` gets a sentence when the API server cannot be read, and None when it can again.
    """
    query = Query(resource, namespace, label_selector, field_selector)
    informer = client.informers.get(query)
    if informer is None:
        informer = client.informers[query] = Informer(client, query, timing, page)
    subscription = Subscription(informer, union(fields), on_add, on_update, on_delete, report)
    informer.join(subscription)
    return subscription


def _call(handler: Callable[..., None], *objects: Object) -> None:
    try:
        handler(*objects)
    except Exception:
        log.exception("a handler of Kubernetes objects failed")
