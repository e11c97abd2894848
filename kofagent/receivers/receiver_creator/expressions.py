"""Expressions over an endpoint: the language of operators, without what reads the agent's environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kofagent.operators.entry import Entry
from kofagent.operators.expression import Expression, ExpressionError, compile_expression
from kofagent.operators.expression.ast import ENTRY_NAMES, Node

_NO_ENTRY = Entry(None, {}, {}, 0)
_MACROS = {"typeOf": lambda node: Node("call", "type", (node,))}
_POD = ("name", "namespace", "uid", "labels", "annotations")
_COMMON = ("type", "id", "endpoint", "host", "port")
VARIABLES: dict[str, tuple[str, ...]] = {
    "pod": _POD,
    "port": ("name", "port", "transport", "pod", "container_name", "container_id", "container_image"),
    "pod.container": ("container_name", "container_id", "container_image", "is_init_container", "pod"),
    "hostport": ("process_name", "command", "is_ipv6", "port", "transport"),
    "container": (*("name", "image", "tag", "port", "alternate_port", "command", "container_id", "host", "transport", "labels"),),
    "k8s.service": (*_POD, "cluster_ip", "service_type"),
    "k8s.ingress": (*_POD, "scheme", "host", "path"),
    "k8s.node": (
        *("name", "uid", "labels", "annotations", "hostname", "external_ip", "internal_ip", "external_dns", "internal_dns"),
        "kubelet_endpoint_port",
    ),
    "kafka.topics": (),
}
"""The names that endpoints of each type have, besides those of all: type, id, endpoint, host, port."""


def compiled(text: str) -> Expression:
    """The expression of `text`; ExpressionError where it cannot be read or asks for more than an endpoint."""
    expression = compile_expression(text, _MACROS)
    for node in expression.root.walk():
        if node.kind == "call" and node.value == "env":
            raise ExpressionError(f"expression {text!r}: there is no function 'env'; write ${{env:NAME}} outside of the backticks")
        if node.kind == "name" and (node.value == "$env" or node.value in ENTRY_NAMES):
            raise ExpressionError(f"expression {text!r}: {node.value!r} is a name of log records, an endpoint has none")
    return expression


def evaluate(expression: Expression, env: Mapping[str, Any]) -> Any:
    """Its value for an endpoint; ExpressionError where a value has the wrong kind."""
    return expression.evaluate(_NO_ENTRY, dict(env))


def unknown(expression: Expression, type: str) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Names that endpoints of this type do not have, each with those that there are."""
    known = (*VARIABLES[type], *_COMMON)
    bound = {node.value for node in expression.root.walk() if node.kind == "let"}
    for node in expression.root.walk():
        if node.kind == "name" and node.value not in known and node.value not in bound and not node.value.startswith("#"):
            yield node.value, tuple(dict.fromkeys(known))
        elif node.kind == "member" and "pod" in known:
            of, key = node.children
            if of.kind == "name" and of.value == "pod" and key.kind == "const" and key.value not in _POD:
                yield f"pod.{key.value}", tuple(f"pod.{each}" for each in _POD)
