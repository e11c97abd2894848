"""Options of receivers with a catalogue of metrics: `metrics` and `resource_attributes` by name, as in upstream's mdatagen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.config.errors import ConfigErrors, Problem, suggest
from kofagent.config.filterset import compile_filterset

Wanted = Callable[[str], bool]


class MetricToggle(ComponentConfig):
    """An entry of `metrics`."""

    enabled: bool | None = Field(None, description="Send this metric; absent: the metric's default.")


class ValueFilter(ComponentConfig):
    """One value of a resource attribute, exactly or by pattern."""

    strict: str | None = Field(None, description="The value.")
    regexp: str | None = Field(None, description="An RE2 expression found anywhere in the value.")

    @model_validator(mode="after")
    def _one(self) -> ValueFilter:
        if (self.strict is None) == (self.regexp is None):
            raise ValueError("write either strict or regexp")
        if self.regexp is not None:
            compile_filterset("regexp", [self.regexp])
        return self


class AttributeToggle(ComponentConfig):
    """An entry of `resource_attributes`."""

    enabled: bool | None = Field(None, description="Send this attribute; absent: the attribute's default.")
    metrics_include: list[ValueFilter] = Field([], description="Only metrics of resources with such a value are sent.")
    metrics_exclude: list[ValueFilter] = Field([], description="Metrics of resources with such a value are not sent.")


class CatalogueOptions(ComponentConfig):
    """`metrics` and `resource_attributes` of a receiver with a catalogue of them, which its options class names."""

    known_metrics: ClassVar[Mapping[str, bool]] = {}
    """Whether a metric is on by default, by name."""
    known_attributes: ClassVar[Mapping[str, bool]] = {}
    """Whether a resource attribute is on by default, by name."""

    metrics: dict[str, MetricToggle] = Field({}, description="Metrics switched on or off by name.")
    resource_attributes: dict[str, AttributeToggle] = Field({}, description="Resource attributes switched on or off by name.")

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, value: dict[str, MetricToggle]) -> dict[str, MetricToggle]:
        check_names(value, cls.known_metrics, "there is no metric {!r}")
        return value

    @field_validator("resource_attributes")
    @classmethod
    def _are_attributes(cls, value: dict[str, AttributeToggle]) -> dict[str, AttributeToggle]:
        check_names(value, cls.known_attributes, "there is no resource attribute {!r}")
        return value


def check_names(names: Iterable[str], known: Collection[str], message: str) -> None:
    """ConfigErrors with what `unknown_names` finds."""
    problems = unknown_names(names, known, message)
    if problems:
        raise ConfigErrors(problems)


def unknown_names(names: Iterable[str], known: Collection[str], message: str) -> list[Problem]:
    """`message` for every name that is not known; `{!r}` in it becomes the name."""
    return [Problem((name,), message.format(name), suggest(name, known)) for name in names if name not in known]


def switched_on(defaults: Mapping[str, bool], toggles: Mapping[str, MetricToggle | AttributeToggle]) -> frozenset[str]:
    """The names that are on: by default, or because an option says so."""
    out = set()
    for name, default in defaults.items():
        toggle = toggles.get(name)
        if default if toggle is None or toggle.enabled is None else toggle.enabled:
            out.add(name)
    return frozenset(out)


class ResourceFilter:
    """`metrics_include` and `metrics_exclude` of all attributes as one question about a resource."""

    def __init__(self, toggles: Mapping[str, AttributeToggle]) -> None:
        self._include = {name: _any_of(t.metrics_include) for name, t in toggles.items() if t.metrics_include}
        self._exclude = {name: _any_of(t.metrics_exclude) for name, t in toggles.items() if t.metrics_exclude}

    def __bool__(self) -> bool:
        return bool(self._include or self._exclude)

    def __call__(self, attributes: Mapping[str, object]) -> bool:
        """Whether the metrics of a resource with these attributes are wanted. A filter on an attribute it lacks is not asked."""
        return all(match(_text(attributes[name])) for name, match in self._include.items() if name in attributes) and not any(
            match(_text(attributes[name])) for name, match in self._exclude.items() if name in attributes
        )


def selection(defaults: Mapping[str, bool], toggles: Mapping[str, AttributeToggle]) -> tuple[frozenset[str], ResourceFilter | None]:
    """The resource attributes that are on, and the filter by their values, None without a filter."""
    return switched_on(defaults, toggles), ResourceFilter(toggles) or None


def _any_of(filters: list[ValueFilter]) -> Wanted:
    strict = frozenset(f.strict for f in filters if f.strict is not None)
    patterns = [f.regexp for f in filters if f.regexp is not None]
    search = compile_filterset("regexp", patterns) if patterns else None
    return lambda value: value in strict or (search is not None and search(value))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
