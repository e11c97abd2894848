"""The receiver `k8sobjects`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

from kofagent.component.backoff import Backoff
from kofagent.component.checkpoints import KeyValueStore, open_store
from kofagent.component.leading import WhileLeading
from kofagent.component.offering import Offer
from kofagent.component.polling import Polling
from kofagent.component.protocols import Context, Receiver, StartError
from kofagent.component.statuses import Statuses
from kofagent.config.re2 import compile_search
from kofagent.kubernetes.changes import Changes, Handlers, Object, Record, unix_seconds
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.discover import discover
from kofagent.kubernetes.errors import ApiError, Gone
from kofagent.kubernetes.records import log_batch
from kofagent.kubernetes.resources import Resource
from kofagent.kubernetes.watch import Query, Timing
from kofagent.receivers.k8sobjects.config import Config, NamespaceFilter, ObjectsBlock
from kofagent.receivers.k8sobjects.convert import SCOPE, namespace_of, pulled, watched
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal

ASK_AT_START = 5.0
"""Seconds that the start waits for the API server to say whether the objects exist."""
ASK_AGAIN = 60.0
PULL_BYTES = 1 << 20
STOP_SECONDS = 2.0


class K8sObjects(Receiver[Config]):
    """A task for each pulled object and namespace, a stream for each watched one."""

    signals = frozenset({Signal.LOGS})
    timing: Timing | None = None
    """Changed by tests only."""

    _client: ApiClient | None = None
    _store: KeyValueStore | None = None

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._leading = WhileLeading(context, config.k8s_leader_elector, self._begin, self._end)
        self._tasks: list[asyncio.Task[None]] = []
        self._streams: list[Changes] = []
        self._pulls: list[Polling] = []

    async def start(self) -> None:
        await self._leading.start()

    async def stop(self) -> None:
        await self._leading.stop()

    async def _begin(self) -> None:
        self._client = client = shared(self.context.host, self.config)
        await client.start()
        self._store = await open_store(self.context, self.config.storage)
        self._offer = Offer(self.context, self.outputs[Signal.LOGS], Signal.LOGS, "http")
        self._statuses = Statuses(self.context)
        for block in self.config.objects:
            try:
                async with asyncio.timeout(ASK_AT_START):
                    resource = await discover(client, block.name, block.group)
            except (ApiError, TimeoutError) as error:
                self._statuses.of(_name(block))(str(error) or "the API server does not answer")
                self._later(block)
                continue
            if resource is not None:
                self._run(block, resource)
            elif self.config.error_mode == "propagate":
                raise StartError(f"{_unknown(block)}; correct its name or group, or set error_mode: ignore")
            else:
                self._missing(block)
                self._later(block)

    async def _end(self) -> None:
        streams, pulls, tasks = self._streams, self._pulls, self._tasks
        self._streams, self._pulls, self._tasks = [], [], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*[stream.stop(STOP_SECONDS) for stream in streams], *[pull.stop() for pull in pulls])
        store, self._store = self._store, None
        if store is not None:
            await store.close()
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    def _missing(self, block: ObjectsBlock) -> None:
        if self.config.error_mode != "silent":
            self.context.log.warning("%s; it is ignored until it exists", _unknown(block))

    def _later(self, block: ObjectsBlock) -> None:
        self._tasks.append(asyncio.create_task(self._wait_for(block), name=f"{self.context.id} {block.name}"))

    async def _wait_for(self, block: ObjectsBlock) -> None:
        """Starts a block once the API server knows its resource."""
        assert self._client is not None
        backoff, report = self._backoff(), self._statuses.of(_name(block))
        told = False
        while True:
            try:
                resource = await discover(self._client, block.name, block.group)
            except ApiError as error:
                report(str(error))
                await asyncio.sleep(backoff.next(error.retry_after))
                continue
            if resource is not None:
                report(None)
                self._run(block, resource)
                return
            if self.config.error_mode == "propagate":
                report(_unknown(block))
            elif not told:
                report(None)
            told = True
            await asyncio.sleep(ASK_AGAIN)

    def _backoff(self) -> Backoff:
        return (self.timing or Timing()).backoff()

    def _run(self, block: ObjectsBlock, resource: Resource) -> None:
        for namespace in (block.namespaces if resource.namespaced else []) or [""]:
            query = Query(resource, namespace, block.label_selector, block.field_selector)
            if block.mode == "pull":
                pull = self._pull(block, query)
                self._pulls.append(pull)
                pull.start()
            else:
                stream = self._stream(block, query)
                self._streams.append(stream)
                stream.start()

    # -- watch -----------------------------------------------------------------------------------------------------------

    def _stream(self, block: ObjectsBlock, query: Query) -> Changes:
        store = self._store
        assert store is not None and self._client is not None
        selectors = f"{query.label_selector}\n{query.field_selector}"
        which = hashlib.sha256(selectors.encode()).hexdigest()[:16] if selectors.strip() else ""
        key = f"{query.resource.api_version}/{query.resource.plural}/{query.namespace}/{which}"
        left_out = set(block.exclude_watch_type)
        excluded = _excluded(block.exclude_namespaces)

        def convert(kind: str, obj: Object) -> Record | None:
            if kind in left_out or excluded(namespace_of(obj)):
                return None
            return self._safely(lambda: watched(kind, obj, query.resource.plural, time.time_ns()))

        async def load() -> bytes | None:
            return await store.get(key) if block.persist_resource_version else None

        async def save(value: bytes) -> None:
            if block.persist_resource_version:
                await store.set(key, value)

        def newer(obj: Object, since: float) -> bool:
            return (unix_seconds((obj.get("metadata") or {}).get("creationTimestamp")) or 0.0) >= int(since)

        async def deliver(records: Sequence[Record]) -> None:
            await self._offer.until_taken(log_batch(records, SCOPE))

        handlers = Handlers(convert, deliver, newer, load, save, self._statuses.of(_name(block, query.namespace)))
        return Changes(
            self._client,
            query,
            handlers,
            initial="all" if self.config.include_initial_state else "",
            version=block.resource_version,
            timing=self.timing,
            kept=self.config.storage is not None and block.persist_resource_version,
        )

    def _safely(self, make: Callable[[], Record]) -> Record | None:
        try:
            return make()
        except (AttributeError, TypeError, ValueError):
            self._offer.lost(1, "malformed")
            return None

    # -- pull ------------------------------------------------------------------------------------------------------------

    def _pull(self, block: ObjectsBlock, query: Query) -> Polling:
        """Lists at once (after `initial_delay`) and then every interval."""
        name = _name(block, query.namespace)
        backoff = self._backoff()
        return Polling(
            self.context,
            lambda: self._pages(block, query, backoff, self._statuses.of(name)),
            self._offer.until_taken,
            interval=self.config.interval_of(block),
            initial_delay=block.initial_delay,
            report=self._statuses.of(f"{name} collects"),
            name=f"{self.context.id} {block.name}",
        )

    async def _pages(
        self, block: ObjectsBlock, query: Query, backoff: Backoff, report: Callable[[str | None], None]
    ) -> AsyncIterator[Batch]:
        """All objects; a list that fails is tried again, without what was sent already, until the next one is due."""
        excluded = _excluded(block.exclude_namespaces)
        loop = asyncio.get_running_loop()
        next_due = loop.time() + self.config.interval_of(block)
        sent: set[str] = set()
        while True:
            try:
                async with contextlib.aclosing(self._list(query, excluded, sent)) as batches:
                    async for batch in batches:
                        yield batch
                report(None)
                backoff.reset()
                return
            except Gone:
                continue  # the list expired half-way
            except ApiError as error:
                report(str(error))
                wait = backoff.next(error.retry_after)
                if loop.time() + wait > next_due:
                    return
                await asyncio.sleep(wait)

    async def _list(self, query: Query, excluded: Callable[[str], bool], sent: set[str]) -> AsyncGenerator[Batch]:
        assert self._client is not None
        kind = {"apiVersion": query.resource.api_version, "kind": query.resource.kind}
        observed = time.time_ns()
        records: list[Record] = []
        keys: list[str] = []
        size = 0
        async for page in self._client.list_pages(
            query.resource, query.namespace, label_selector=query.label_selector, field_selector=query.field_selector
        ):
            for obj in page.items:
                key = str((obj.get("metadata") or {}).get("uid") or "")
                if key in sent or excluded(namespace_of(obj)):
                    continue
                record = self._safely(lambda obj=obj: pulled({**kind, **obj}, query.resource.plural, observed))  # type: ignore[misc]
                if record is None:
                    continue
                records.append(record)
                keys.append(key)
                size += len(record[1])
                if len(keys) % 25 == 0:
                    await asyncio.sleep(0)  # a page of big objects must not hold up everything else
                if size > PULL_BYTES:
                    yield log_batch(records, SCOPE)
                    sent.update(keys)
                    records, keys, size = [], [], 0
        if records:
            yield log_batch(records, SCOPE)
            sent.update(keys)


def _name(block: ObjectsBlock, namespace: str = "") -> str:
    return f"{block.mode} {block.name}.{block.group}/{namespace}"


def _unknown(block: ObjectsBlock) -> str:
    return f"the API server has no resource {block.name!r}" + (f" in group {block.group!r}" if block.group else "")


def _excluded(filters: Sequence[NamespaceFilter]) -> Callable[[str], bool]:
    names = {f.strict for f in filters if f.strict}
    searches = [compile_search(f.regexp) for f in filters if f.regexp]
    if not names and not searches:
        return lambda namespace: False
    return lambda namespace: bool(namespace) and (namespace in names or any(search(namespace) for search in searches))
