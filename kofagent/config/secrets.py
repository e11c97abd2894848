"""The secrets in a configuration, found by the types of its options: to hide them, and to refuse the mask in their place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr

from kofagent.config.base import PARAMETERS, spellings
from kofagent.config.errors import Path, Problem
from kofagent.config.model import SECTIONS, ServiceConfig
from kofagent.config.redact import MASK, header_shown, parameter_shown, without_secrets
from kofagent.config.references import Registry
from kofagent.config.tree import Node
from kofagent.config.typed_tree import annotated, is_block, item_of

_KEYS = frozenset(
    (
        "access_key",
        "api_key",
        "bearer_token",
        "client_secret",
        "credentials",
        "inline",
        "key_pem",
        "password",
        "secret_access_key",
        "secret_key",
        "token",
    )
)
"""Keys of secrets where there is no type to ask: in components that are not known, and in maps of anything."""
_BLOCKS = frozenset(("headers", "response_headers"))
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+\Z")


def redacted(root: Node, registry: Registry) -> Node:
    """A copy of a configuration without its secrets. References to them (`${env:X}`) stay."""
    copy = root.copy()
    for _, node in copy.walk():
        if isinstance(node.value, str) and ("@" in node.value or _URL.match(node.value)):
            node.value = without_secrets(node.value)
    for _, node in _of_configuration(copy, registry):
        if node.value not in (None, "") and not (isinstance(node.value, str) and "${" in node.value):
            node.value, node.text = MASK, None
    return copy


def masks(node: Node, model: type[BaseModel]) -> Iterator[tuple[Path, Problem]]:
    """A problem for each secret of a block in whose place the mask stands, with paths below it."""
    places = dict(secrets(node, model))
    for path, each in node.walk():
        text = each.value
        if not isinstance(text, str) or MASK not in text:
            continue
        if (path in places and text == MASK) or (_URL.match(text) and without_secrets(text) == text):
            message = f"holds {MASK}, which `kofagent render` shows in place of a secret"
            yield path, Problem(path, message, "write the secret, or a reference to it such as ${env:NAME}")


def secrets(node: Node, kind: Any, path: Path = (), around: tuple[Any, ...] = (), header: str = "") -> Iterator[tuple[Path, Node]]:
    """Every scalar below `node` that is a secret by its type; `header` is the name of the header that it is the value of."""
    for each, said in annotated(kind, around):
        if PARAMETERS in said:
            for name in node.names():
                if not parameter_shown(name):
                    yield from _scalars(node.value[name], (*path, name))
        elif isinstance(each, type) and issubclass(each, SecretStr):
            if not isinstance(node.value, dict | list) and not header_shown(header):
                yield path, node
        elif is_block(each):
            yield from _of_block(node, each, path)
        elif each is Any:
            yield from _by_name(node, path)
        else:
            for part in node.names() if node.is_map else range(len(node.value) if node.is_list else 0):
                item = item_of(each, part)
                child = node.child(part)
                if item is not None and child is not None:
                    yield from secrets(child, item, (*path, part), (), str(part) if node.is_map else header)


def _of_block(node: Node, model: type[BaseModel], path: Path) -> Iterator[tuple[Path, Node]]:
    # `- {name: X-Scope-OrgID, value: a}`
    named = node.child("name") or node.child("key")
    header = str(named.value) if named is not None and node.child("value") is not None else ""
    for name, field in model.model_fields.items():
        for key in spellings(name, field):
            if (child := node.child(key)) is not None:
                yield from secrets(child, field.annotation, (*path, key), tuple(field.metadata), header if key == "value" else "")


def _scalars(node: Node, path: Path) -> Iterator[tuple[Path, Node]]:
    yield from ((where, each) for where, each in node.walk(path) if not isinstance(each.value, dict | list))


def _by_name(node: Node, path: Path, key: str = "", block: str = "") -> Iterator[tuple[Path, Node]]:
    if node.is_map:
        for name in node.names():
            yield from _by_name(node.value[name], (*path, name), name, key)
    elif node.is_list:
        for index, item in enumerate(node.value):
            yield from _by_name(item, (*path, index), "", key)
    elif isinstance(node.value, str) and (key in _KEYS or (block in _BLOCKS and not header_shown(key))):
        yield path, node


def _of_configuration(root: Node, registry: Registry) -> Iterator[tuple[Path, Node]]:
    for section in root.names():
        block = root.value[section]
        if section == "service":
            yield from secrets(block, ServiceConfig, (section,))
        elif section not in SECTIONS or not block.is_map:
            yield from _by_name(block, (section,))
        else:
            for id in block.names():
                yield from secrets(block.value[id], _class(registry, section, id), (section, id))


def _class(registry: Registry, section: str, id: str) -> Any:
    """The options class of a component; Any when it is not known."""
    type = registry.type_of(id)
    try:
        return registry.load(section, type).Config if registry.resolve(section, type) is not None else Any
    except ImportError:
        return Any
