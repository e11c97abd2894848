"""Secrets and ConfigMaps that monitors reference, each read and watched by its name alone.

The role needs `list` and `watch` with `resourceNames`; nothing else of the namespace is read. What cannot be read, at start
or later, is logged once, with the missing rule for this object; a value that was read stays in use while the API server does
not answer or no longer allows access.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterable

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.informer import Subscription, subscribe
from kofagent.kubernetes.resources import CONFIGMAPS, SECRETS, Resource
from kofagent.prometheus.discovery.kubernetes.discovery import Report
from kofagent.prometheus.monitors.job import Unusable

Reference = tuple[str, str, str]
"""Kind (Secret, ConfigMap), namespace, name."""
_RESOURCES: dict[str, Resource] = {"Secret": SECRETS, "ConfigMap": CONFIGMAPS}


class Pending(Unusable):
    """The value is being read for the first time."""


class Unreadable(Unusable):
    """The object may not be read, which was logged already."""


class Secrets:
    """A `Resolve` over watched objects. `changed` is called when a value may have changed."""

    def __init__(self, client: ApiClient, report: Report, changed: Callable[[], None]) -> None:
        self._client = client
        self._report = report
        self._changed = changed
        self._known: dict[Reference, _Named] = {}
        self.asked: set[Reference] = set()

    def __call__(self, kind: str, namespace: str, name: str, key: str) -> str:
        """As `Resolve`; starts to watch what is requested for the first time."""
        reference = kind, namespace, name
        self.asked.add(reference)
        named = self._known.get(reference)
        if named is None:
            named = self._known[reference] = _Named(reference, self._client, self._report, self._changed)
        return named.value(key)

    async def forget_but(self, wanted: Iterable[Reference]) -> None:
        """Stops reading everything else."""
        for reference in set(self._known) - set(wanted):
            await self._known.pop(reference).stop()


class _Named:
    def __init__(self, reference: Reference, client: ApiClient, report: Report, changed: Callable[[], None]) -> None:
        self._kind, self._namespace, self._name = reference
        self._report = report
        self._changed = changed
        self._error: str | None = None
        self._subscription: Subscription = subscribe(
            client,
            _RESOURCES[self._kind],
            namespace=self._namespace,
            field_selector=f"metadata.name={self._name}",
            fields=("data",),
            on_add=lambda _: changed(),
            on_update=lambda _, __: changed(),
            on_delete=lambda _: changed(),
            report=self._told,
        )
        self._task = asyncio.ensure_future(self._first_read())

    @property
    def _what(self) -> str:
        return f"{self._kind} {self._namespace}/{self._name}"

    def value(self, key: str) -> str:
        if not self._subscription.synced.is_set():
            if self._error:
                raise Unreadable(f"{self._what} cannot be read")
            raise Pending(f"{self._what} is being read")
        obj = self._subscription.get(self._namespace, self._name)
        if obj is None:
            raise Unusable(f"{self._what} does not exist")
        data = obj.get("data") or {}
        if key not in data:
            raise Unusable(f"{self._what} has no key {key}")
        if self._kind == "ConfigMap":
            return str(data[key])
        try:
            return base64.b64decode(data[key], validate=True).decode()
        except (ValueError, binascii.Error):
            raise Unusable(f"{self._what}: key {key} is not text") from None

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._subscription.stop()
        if self._error:
            self._report(self._what, None)

    async def _first_read(self) -> None:
        # An object that does not exist makes no event.
        await self._subscription.synced.wait()
        self._changed()

    def _told(self, error: str | None) -> None:
        self._error = error
        self._report(self._what, error)
        self._changed()
