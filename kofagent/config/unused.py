"""Warnings about options that are valid: those that are accepted without effect, and those that a block itself warns of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kofagent.config.base import ComponentConfig, spellings
from kofagent.config.errors import Path, Problem
from kofagent.config.tree import Node

ACCEPTED = "Accepted"
"""The description of an option begins so when nothing reads it: it is there because upstream has it."""


def notices(block: BaseModel, node: Node, path: Path = ()) -> Iterator[Problem]:
    """The warnings of a validated block and of all in it, with paths below it. `node` is what the block was made of.

    An option without effect is mentioned if a user set it to something else than its default, but not if a generated pipeline
    set it.
    """
    if isinstance(block, ComponentConfig):
        yield from (problem.under(path) for problem in block.notices())
        yield from _not_enabled(block, node, path)
    for name, field in type(block).model_fields.items():
        key = next((k for k in spellings(name, field) if node.child(k) is not None), None)
        if key is None:
            continue
        below = node.child(key) or Node(None)
        value = getattr(block, name)
        if without_effect(field) and below.origin.layer == "user" and value != default_of(field):
            _, _, why = (field.description or "").partition("; ")
            yield Problem((*path, key), "has no effect", why.rstrip(".") or "remove it", warning=True)
        else:
            yield from _inside(value, below, (*path, key))


def _not_enabled(block: ComponentConfig, node: Node, path: Path) -> Iterator[Problem]:
    """What a user set in a block that is off unless somebody turns it on. Who wrote `enabled: false` knows."""
    switch = type(block).model_fields.get("enabled")
    if switch is None or switch.default is not False or not block.idle_unless_enabled or node.child("enabled") is not None:
        return
    keys = [key for key in node.names() if (node.child(key) or Node(None)).origin.layer == "user"]
    if keys:
        yield Problem((*path, keys[0]), "has no effect, since this block is not enabled", "set enabled: true", warning=True)


def without_effect(field: FieldInfo) -> bool:
    """Whether the reference says that nothing reads this option."""
    return (field.description or "").startswith(ACCEPTED)


def default_of(field: FieldInfo) -> Any:
    """The default of an option, None for one that is required."""
    return None if field.is_required() else field.get_default(call_default_factory=True, validated_data={})


def _inside(value: Any, node: Node, path: Path) -> Iterator[Problem]:
    if isinstance(value, BaseModel):
        yield from notices(value, node, path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if (below := node.child(str(key))) is not None:
                yield from _inside(item, below, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if (below := node.child(index)) is not None:
                yield from _inside(item, below, (*path, index))
