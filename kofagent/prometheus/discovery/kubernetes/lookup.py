"""The objects that targets are derived from, and which target groups are rebuilt when one of them changes."""

from __future__ import annotations

from collections.abc import Iterable

from kofagent.kubernetes.informer import Subscription
from kofagent.kubernetes.resources import JOBS, NAMESPACES, NODES, PODS, REPLICASETS, SERVICES, Resource
from kofagent.prometheus.discovery.kubernetes.labels import Object

Asked = tuple[Resource, str]
"""A resource and the `namespace/name` (or name) that was looked up."""


class Stores:
    """Subscriptions by resource and namespace as a `Lookup`, which remembers what was asked for."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[Resource, str], Subscription] = {}
        self.asked: set[Asked] = set()

    def add(self, resource: Resource, namespace: str, subscription: Subscription) -> None:
        """Adds the objects of one namespace (empty: of all)."""
        self._by_place[resource, namespace] = subscription

    def _find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        subscription = self._by_place.get((resource, "")) or self._by_place.get((resource, namespace))
        if subscription is None:
            return None
        self.asked.add((resource, f"{namespace}/{name}" if namespace else name))
        return subscription.get(namespace, name)

    def pod(self, namespace: str, name: str) -> Object | None:
        """A pod."""
        return self._find(PODS, namespace, name)

    def service(self, namespace: str, name: str) -> Object | None:
        """A service."""
        return self._find(SERVICES, namespace, name)

    def node(self, name: str) -> Object | None:
        """A node."""
        return self._find(NODES, "", name)

    def namespace(self, name: str) -> Object | None:
        """A namespace."""
        return self._find(NAMESPACES, "", name)

    def replicaset(self, namespace: str, name: str) -> Object | None:
        """A replica set."""
        return self._find(REPLICASETS, namespace, name)

    def job(self, namespace: str, name: str) -> Object | None:
        """A job."""
        return self._find(JOBS, namespace, name)


class Dependents:
    """Which groups depend on which objects, so that a change of an object (also one that did not exist) reaches them."""

    def __init__(self) -> None:
        self._asked: dict[str, frozenset[Asked]] = {}
        self._by_asked: dict[Asked, set[str]] = {}

    def set(self, key: str, asked: Iterable[Asked]) -> None:
        """`key` was made with exactly these."""
        new = frozenset(asked)
        old = self._asked.get(key, frozenset())
        for one in old - new:
            keys = self._by_asked[one]
            keys.discard(key)
            if not keys:
                del self._by_asked[one]
        for one in new - old:
            self._by_asked.setdefault(one, set()).add(key)
        if new:
            self._asked[key] = new
        else:
            self._asked.pop(key, None)

    def of(self, asked: Asked) -> frozenset[str]:
        """The keys made with an object."""
        return frozenset(self._by_asked.get(asked, ()))
