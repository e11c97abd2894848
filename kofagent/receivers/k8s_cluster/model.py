"""What is sent about an object: `Described` (a resource and its points) for metrics, `Entity` for entity events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from kofagent.component.metric_options import ResourceFilter, switched_on
from kofagent.kubernetes import quantity
from kofagent.kubernetes.resources import Resource
from kofagent.kubernetes.trim import Field, Object
from kofagent.receivers.k8s_cluster.catalog import CATALOG, DEFAULTS, RESOURCE_ATTRIBUTES, allocatable_metric, condition_metric
from kofagent.receivers.k8s_cluster.config import Config
from kofagent.transform.otlp_metrics import Metric, Pairs
from kofagent.wire.attributes import Value

Point = tuple[Metric, float, Pairs]
Lookup = Callable[[Resource, str, str], "Object | None"]
"""Another object by resource, namespace and name, as far as it is known."""


class Described(NamedTuple):
    """The points of one resource. `started`: they carry the receiver's start as their start time."""

    resource: Pairs
    points: tuple[Point, ...]
    started: bool = True


class Entity(NamedTuple):
    """One entity: its type, the attribute that identifies it, and what is known of it."""

    type: str
    id_key: str
    id: str
    attributes: dict[str, str]


class Selection:
    """Which metrics and attributes are sent."""

    def __init__(self, config: Config) -> None:
        self.metrics = switched_on(DEFAULTS, config.metrics)
        self.attributes = switched_on(RESOURCE_ATTRIBUTES, config.resource_attributes)
        conditions = {name: condition_metric(name) for name in config.node_conditions_to_report}
        allocatable = {name: allocatable_metric(name) for name in config.allocatable_types_to_report}
        self.conditions = tuple([(name, conditions[name]) for name in config.node_conditions_to_report])
        self.allocatable = tuple([(name, allocatable[name]) for name in config.allocatable_types_to_report])
        self._filter = ResourceFilter(config.resource_attributes)

    def on(self, *names: str) -> bool:
        """Whether one of these metrics is wanted."""
        return any(name in self.metrics for name in names)

    def points(self, *values: tuple[str, float | None] | tuple[str, float | None, Pairs]) -> tuple[Point, ...]:
        """The points of the enabled metrics; a value of None gives no point. ("k8s.pod.phase", 2), or with attributes."""
        return tuple(
            [(CATALOG[v[0]].metric, v[1], v[2] if len(v) > 2 else ()) for v in values if v[0] in self.metrics and v[1] is not None]
        )

    def described(self, resource: Iterable[tuple[str, Value]], points: tuple[Point, ...], started: bool = True) -> list[Described]:
        """The points with the enabled attributes; nothing if there are no points or a filter excludes them."""
        if not points:
            return []
        pairs = tuple([(name, value) for name, value in resource if value is not None and name in self.attributes])
        if self._filter and not self._filter(dict(pairs)):
            return []
        return [Described(pairs, points, started)]


class Source(NamedTuple):
    """One kind of object: the fields that metrics and entities need, and what is sent about an object."""

    resource: Resource
    metric_fields: Callable[[Selection], tuple[Field, ...]]
    describe: Callable[[Object, Selection], list[Described]]
    entity_fields: tuple[Field, ...]
    entities: Callable[[Object, Lookup], list[Entity]] | None


META_FIELDS: tuple[Field, ...] = (
    "metadata.labels",
    "metadata.creationTimestamp",
    "metadata.ownerReferences.kind",
    "metadata.ownerReferences.name",
    "metadata.ownerReferences.uid",
)
"""Fields of an object's metadata that every entity needs."""
NO_TIME = "0001-01-01T00:00:00Z"


def metadata_of(obj: Object) -> tuple[str, str, str]:
    """(name, namespace, uid)."""
    metadata = obj["metadata"]
    return metadata["name"], metadata.get("namespace", ""), metadata.get("uid", "")


def labels_of(obj: Object) -> dict[str, str]:
    """A copy of the labels."""
    return dict(obj["metadata"].get("labels") or {})


def created(obj: Object) -> str:
    """When the object was made, as RFC 3339."""
    return obj["metadata"].get("creationTimestamp") or NO_TIME


def owners(obj: Object) -> list[dict[str, str]]:
    """The owner references."""
    return obj["metadata"].get("ownerReferences") or []


def at(obj: Mapping[str, Any], *path: str) -> Any:
    """The value under a path of keys; None if a key is missing."""
    found: Any = obj
    for step in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found


def number(obj: Mapping[str, Any], *path: str) -> int:
    """The integer under a path; the API omits zeros."""
    return int(at(obj, *path) or 0)


def amount(read: Callable[[str], float], text: Any) -> float | None:
    """A quantity read with `quantity.whole` and the like; None if it is missing or malformed."""
    if text is None:
        return None
    try:
        return read(str(text))
    except ValueError:
        return None


def quota_value(name: str, text: Any) -> float | None:
    """The value of a quota for a resource: requests.cpu and limits.cpu in thousandths, everything else in units."""
    return amount(quantity.milli if name.endswith(".cpu") else quantity.whole, text)


def generic_entity(obj: Object, kind: str) -> Entity:
    """The entity of a workload of this kind."""
    name, namespace, uid = metadata_of(obj)
    lower = kind.lower()
    attributes = labels_of(obj)
    attributes |= {
        "k8s.workload.kind": kind,
        "k8s.workload.name": name,
        f"{lower}.creation_timestamp": created(obj),
        "k8s.namespace.name": namespace,
    }
    for owner in owners(obj):
        owner_kind = owner.get("kind", "").lower()
        attributes[f"k8s.{owner_kind}.name"] = owner.get("name", "")
        attributes[f"k8s.{owner_kind}.uid"] = owner.get("uid", "")
    return Entity(f"k8s.{lower}", f"k8s.{lower}.uid", uid, attributes)
