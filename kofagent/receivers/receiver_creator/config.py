"""Options of the `receiver_creator` receiver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import Field, field_validator

from kofagent.component.observing import TYPES
from kofagent.config.base import ComponentConfig, Inner, ObserverId
from kofagent.config.errors import ConfigErrors, Path, Problem, suggest
from kofagent.config.tree import Node
from kofagent.receivers.receiver_creator.expressions import unknown
from kofagent.receivers.receiver_creator.plausible import plausible
from kofagent.receivers.receiver_creator.rules import Rule
from kofagent.receivers.receiver_creator.templates import Template, filled, templates

_OF_POD = {"k8s.pod.name": "`pod.name`", "k8s.pod.uid": "`pod.uid`", "k8s.namespace.name": "`pod.namespace`"}
RESOURCE_ATTRIBUTES: dict[str, dict[str, str]] = {
    "pod": {"k8s.pod.name": "`name`", "k8s.pod.uid": "`uid`", "k8s.namespace.name": "`namespace`"},
    "port": _OF_POD,
    "pod.container": {
        **_OF_POD,
        "k8s.container.name": "`container_name`",
        "container.id": "`container_id`",
        "container.image.name": "`container_image`",
    },
    "container": {"container.name": "`name`", "container.image.name": "`image`"},
    "k8s.service": {"k8s.namespace.name": "`namespace`"},
    "k8s.ingress": {"k8s.namespace.name": "`namespace`"},
    "k8s.node": {"k8s.node.name": "`name`", "k8s.node.uid": "`uid`"},
}
"""Upstream's attributes by type of endpoint; an empty text in the options removes one."""


class TemplateBlock(ComponentConfig):
    """An entry of `receivers`: the receiver that is started for each endpoint that the rule is true of."""

    rule: str = Field(description="Which endpoints; an expression that begins with their type.")
    config: dict[str, Any] = Field({}, description="Options of the receiver; expressions in backticks are filled.")
    resource_attributes: dict[str, str] = Field(
        {}, description="Resource attributes of what it brings in, in place of those of the endpoint's type; empty: none."
    )

    @field_validator("rule")
    @classmethod
    def _compiles(cls, text: str) -> str:
        Rule(text)
        return text

    @field_validator("config", "resource_attributes")
    @classmethod
    def _can_be_filled(cls, value: dict[str, Any]) -> dict[str, Any]:
        _check(value)
        return value

    def notices(self) -> Iterable[Problem]:
        """Names that no endpoint of the rule's type has."""
        rule = Rule(self.rule)
        yield from _strange(("rule",), [rule], rule.type)
        for key, block in (("config", self.config), ("resource_attributes", self.resource_attributes)):
            for path, text in templates(block, (key,)):
                yield from _strange(path, Template(text).expressions, rule.type)


def _check(value: dict[str, Any]) -> None:
    problems = []
    for path, text in templates(value):
        try:
            Template(text)
        except ValueError as error:
            problems.append(Problem(path, str(error)))
    if problems:
        raise ConfigErrors(problems)


def _strange(path: Path, expressions: Iterable[Any], type: str) -> Iterator[Problem]:
    for each in expressions:
        for name, known in unknown(getattr(each, "expression", each), type):
            message = f"endpoints of type {type!r} have no {name!r}, so it is always nil"
            yield Problem(path, message, suggest(name, known, limit=20), warning=True)


class DiscoveryBlock(ComponentConfig):
    """`discovery`: receivers that pods ask for with annotations."""

    enabled: bool = Field(False, description="Start the receivers that annotations of pods ask for.")
    ignore_receivers: list[str] = Field([], description="Types of receivers that no annotation starts.")
    allow_receivers: list[str] = Field([], description="Further types of receivers that annotations may start as scrapers.")
    default_annotations: dict[str, str] = Field({}, description="Annotations of pods that do not have them themselves.")


class Config(ComponentConfig):
    """Options of upstream's receiver_creator."""

    watch_observers: list[ObserverId] = Field([], description="Extensions that find endpoints.")
    receivers: dict[str, TemplateBlock] = Field({}, description="Receivers to start, by TYPE or TYPE/NAME.")
    resource_attributes: dict[str, dict[str, str]] = Field(
        {}, description="Resource attributes by type of endpoint, over upstream's; values are filled, an empty one removes."
    )
    discovery: DiscoveryBlock = Field(DiscoveryBlock(), description="Receivers that pods ask for with annotations.")

    @field_validator("resource_attributes")
    @classmethod
    def _can_be_filled(cls, value: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        strange = [each for each in value if each not in TYPES]
        if strange:
            raise ConfigErrors(
                Problem((each,), f"there are no endpoints of type {each!r}", suggest(each, TYPES)) for each in strange
            )
        _check(value)
        return value

    def notices(self) -> Iterable[Problem]:
        """That nothing can ever be started."""
        if not self.watch_observers:
            yield Problem(("watch_observers",), "no observer is watched, so no receiver is started", "name one", warning=True)
        elif not self.receivers and not self.discovery.enabled:
            yield Problem(("receivers",), "there is nothing to start", "add a receiver, or enable discovery", warning=True)
        for type, attributes in self.resource_attributes.items():
            for path, text in templates(attributes, ("resource_attributes", type)):
                yield from _strange(path, Template(text).expressions, type)

    @classmethod
    def inner(cls, node: Node) -> Iterator[Inner]:
        """The options of the receivers, filled from endpoints that are made up."""
        receivers = node.child("receivers")
        for key in receivers.names() if receivers is not None else ():
            assert receivers is not None
            block = receivers.child(key)
            rule = block.child("rule") if block is not None else None
            try:
                type = Rule(str(rule.value)).type if rule is not None else ""
            except ValueError:
                continue  # said of the rule itself
            if not type or block is None:
                continue
            endpoint = plausible(type)
            options = block.child("config")
            where: Path = ("receivers", key, "config")
            content, loose = filled(options, endpoint.env()) if options is not None else (Node({}, block.origin), frozenset())
            yield Inner(where, "receivers", key, content, loose, {"endpoint": endpoint.target})
