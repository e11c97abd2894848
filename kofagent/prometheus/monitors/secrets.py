"""Secrets and ConfigMaps that monitors name, each read and watched by its name alone.

The role needs `list` and `watch` with `resourceNames`; nothing else of the namespace is read. What cannot be read is told once,
with the rule that is missing; a value that was read stays while the API server does not answer or no longer allows it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Callable, Iterable

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import ApiError, Forbidden
from kofagent.kubernetes.informer import Subscription, subscribe
from kofagent.kubernetes.resources import CONFIGMAPS, SECRETS, Resource
from kofagent.prometheus.discovery.kubernetes.discovery import Report
from kofagent.prometheus.monitors.job import Unusable

RETRY_S = 30.0
Reference = tuple[str, str, str]
"""Kind (Secret, ConfigMap), namespace, name."""
_RESOURCES: dict[str, Resource] = {"Secret": SECRETS, "ConfigMap": CONFIGMAPS}


class Pending(Unusable):
    """The value is being read for the first time."""


class Unreadable(Unusable):
    """The object may not be read, which was told already."""


class Secrets:
    """A `Resolve` over watched objects. `changed` is called when a value may be another one."""

    def __init__(self, client: ApiClient, log: logging.Logger, report: Report, changed: Callable[[], None],
                 retry: float = RETRY_S) -> None:
        self._client = client
        self._log = log
        self._report = report
        self._changed = changed
        self._retry = retry
        self._known: dict[Reference, _Named] = {}
        self.asked: set[Reference] = set()

    def __call__(self, kind: str, namespace: str, name: str, key: str) -> str:
        """As `Resolve`; begins to watch what is asked for the first time."""
        reference = kind, namespace, name
        self.asked.add(reference)
        named = self._known.get(reference)
        if named is None:
            named = self._known[reference] = _Named(reference, self._client, self._log, self._report, self._changed, self._retry)
        return named.value(key)

    async def forget_but(self, wanted: Iterable[Reference]) -> None:
        """Stops reading everything else."""
        for reference in set(self._known) - set(wanted):
            await self._known.pop(reference).stop()


class _Named:
    def __init__(self, reference: Reference, client: ApiClient, log: logging.Logger, report: Report, changed: Callable[[], None],
                 retry: float) -> None:
        self._kind, self._namespace, self._name = reference
        self._resource = _RESOURCES[self._kind]
        self._client = client
        self._log = log
        self._report = report
        self._changed = changed
        self._retry = retry
        self._subscription: Subscription | None = None
        self._refused = ""
        self._task = asyncio.ensure_future(self._run())

    @property
    def _what(self) -> str:
        return f"{self._kind} {self._namespace}/{self._name}"

    def value(self, key: str) -> str:
        if self._subscription is None or not self._subscription.synced.is_set():
            if self._refused:
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
        if self._subscription is not None:
            await self._subscription.stop()
        if self._refused:
            self._report(self._what, None)

    async def _run(self) -> None:
        # The first look is by hand, so that a refusal names the object and the narrowest rule instead of "secrets".
        field = f"metadata.name={self._name}"
        while True:
            try:
                await self._client.list_page(self._resource, self._namespace, field_selector=field, limit=1)
                break
            except ApiError as error:
                self._refuse(self._rule() if isinstance(error, Forbidden) else str(error))
            await asyncio.sleep(self._retry)
        if self._refused:
            self._log.info("%s can be read now", self._what)
            self._report(self._what, None)
        changed = self._changed
        self._subscription = subscribe(
            self._client, self._resource, namespace=self._namespace, field_selector=field, fields=("data",),
            on_add=lambda _: changed(), on_update=lambda _, __: changed(), on_delete=lambda _: changed(),
            report=lambda error: self._report(self._what, error))
        await self._subscription.synced.wait()
        self._refused = ""
        changed()

    def _rule(self) -> str:
        rule = {"apiGroups": [""], "resources": [self._resource.plural], "resourceNames": [self._name], "verbs": ["list", "watch"]}
        return f"403, add to a Role of the agent in namespace {self._namespace} the rule {json.dumps(rule)}"

    def _refuse(self, why: str) -> None:
        if why != self._refused:
            self._refused = why
            self._log.error("%s cannot be read: %s", self._what, why)
            self._report(self._what, why)
            self._changed()
