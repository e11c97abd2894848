"""A tree of nodes walked together with the types of an options class: which option, and of which type, a value is."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from kofagent.config.base import spellings
from kofagent.config.errors import Path
from kofagent.config.tree import Node


class Located(NamedTuple):
    """Where in a configuration a pydantic location is: its path, the types expected there, the types of what holds it."""

    path: Path
    types: list[Any]
    parents: list[Any]


def locate(loc: Sequence[Any], model: Any, base: Node, *, missing: bool) -> Located:
    """The place of a pydantic location. Names of union branches and of validators in it are left out of the path."""
    path: list[str | int] = []
    node: Node | None = base
    types_at, parents = alternatives(model), alternatives(model)
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        below = [t for each in types_at for t in _step(each, part)]
        child = node.child(part) if node is not None else None
        if child is not None or (below and (missing or node is None or isinstance(part, int))):
            path.append(part)
            parents, types_at, node = types_at, below, child
        elif missing and last:
            path.append(part)
            parents, types_at = types_at, below
        elif part != "[key]":
            named = [t for t in types_at if getattr(t, "__name__", "") == part]
            types_at = named or types_at
    return Located(tuple(path), types_at, parents)


def marked(node: Node, type: Any, marker: object, path: Path = (), around: tuple[Any, ...] = ()) -> Iterator[tuple[Path, Node]]:
    """Every scalar below `node` whose option is annotated with `marker`: `Annotated[str, marker]`, in lists and maps too.

    `type` is that of the node, `around` are annotations that it stands in.
    """
    for each, said in annotated(type, around):
        if marker in said and not isinstance(node.value, dict | list):
            yield path, node
            return
        if is_block(each):
            for name, field in each.model_fields.items():
                for key in spellings(name, field):
                    if (child := node.child(key)) is not None:
                        # pydantic keeps the annotations of a field apart from its type.
                        yield from marked(child, field.annotation, marker, (*path, key), tuple(field.metadata))
            continue
        keys: Iterable[str | int] = node.names() if node.is_map else range(len(node.value) if node.is_list else 0)
        for part in keys:
            child = node.child(part)
            if child is not None and (item := item_of(each, part)) is not None:
                yield from marked(child, item, marker, (*path, part))


def is_block(annotation: Any) -> bool:
    """Whether this is the class of a block of options."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def annotated(annotation: Any, around: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The alternatives of a union, each with the annotations around it."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from annotated(args[0], (*around, *args[1:]))
    elif origin in (Union, types.UnionType):
        for arg in args:
            yield from annotated(arg, around)
    else:
        yield annotation, around


def alternatives(annotation: Any) -> list[Any]:
    """The alternatives of a union, without `Annotated` and None."""
    return [t for t, _ in annotated(annotation) if t is not type(None)]


def item_of(annotation: Any, part: str | int) -> Any:
    """The type below a key or index of a map or list of this type, None when it is neither."""
    origin, args = get_origin(annotation), get_args(annotation)
    if not args or not isinstance(origin, type):
        return None
    if issubclass(origin, dict) or origin.__name__ == "Mapping":
        return args[1]
    if issubclass(origin, list | set | frozenset | tuple) or origin.__name__ == "Sequence":
        return args[0] if isinstance(part, int) else None
    return None


def _step(annotation: Any, part: Any) -> list[Any]:
    """The types below a key or index of a value of this type."""
    if is_block(annotation):
        for name, field in annotation.model_fields.items():
            if part in spellings(name, field):
                return alternatives(field.annotation)
        return []
    item = item_of(annotation, part)
    return [] if item is None else alternatives(item)


def known_keys(types_at: Iterable[Any]) -> list[str]:
    """Keys of the blocks among these types."""
    return [spellings(name, field)[0] for t in types_at if is_block(t) for name, field in t.model_fields.items()]
