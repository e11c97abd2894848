"""The context of a condition or of a group of statements, by the names that their paths begin with (upstream's rules).

Of the names the one that comes first in PRIORITY is tried: it must be a context of the signal and have every function and enum that
is used; else the next one from it outwards that has them. Without a path there is nothing to go by.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from kofagent.ottl import ast
from kofagent.ottl.env import VISIBLE, enums
from kofagent.ottl.errors import OttlError, did_you_mean
from kofagent.ottl.functions import CONVERTERS, EDITORS

PRIORITY = ("log", "exemplar", "datapoint", "metric", "spanevent", "span", "scope", "resource")


def nodes(node: Any) -> Iterator[Any]:
    """The node and everything in it."""
    if dataclasses.is_dataclass(node):
        yield node
        for field in dataclasses.fields(node):
            yield from nodes(getattr(node, field.name))
    elif isinstance(node, tuple | list):
        for item in node:
            yield from nodes(item)


def infer(trees: Iterable[Any], contexts: Iterable[str], what: str = "condition") -> str:
    """The context of the trees, one of `contexts`. OttlError."""
    known = tuple(contexts)
    every = [node for tree in trees for node in nodes(tree)]
    named = [node for node in every if isinstance(node, ast.Path)]
    firsts = {_context(node.fields[0].name) for node in named}
    candidates = [name for name in PRIORITY if name in firsts]
    if not candidates:
        if named and (outside := next((n for n in named if n.fields[0].name != "otelcol"), None)) is not None:
            written = ".".join(field.name for field in outside.fields)
            raise OttlError(
                f"the path {written} must begin with its context ({', '.join(known)}), as {known[-1]}.{written}", outside.column
            )
        raise OttlError(f"the {what} has no path that shows its context; set the context as well", 1)
    first = candidates[0]
    if first not in known:
        place = next(node for node in named if _context(node.fields[0].name) == first)
        raise OttlError(f"the context {first} is not one of this signal ({', '.join(known)})", place.column)
    problems = [
        _lacking(every, context) for context in (first, *(c for c in PRIORITY if c in known and first in VISIBLE[c] and c != first))
    ]
    options = [first, *(c for c in PRIORITY if c in known and first in VISIBLE[c] and c != first)]
    for context, problem in zip(options, problems, strict=True):
        if problem is None:
            return context
    assert problems[0] is not None
    raise problems[0]


def _context(name: str) -> str:
    return "scope" if name == "instrumentation_scope" else name


def _lacking(every: list[Any], context: str) -> OttlError | None:
    """What the context does not have of the functions and enums that are used."""
    for node in every:
        if isinstance(node, ast.Call):
            table = EDITORS if node.name[0].islower() else CONVERTERS
            function = table.get(node.name)
            word = "editor" if table is EDITORS else "converter"
            if function is None:
                return OttlError(f"unknown {word} {node.name}{did_you_mean(node.name, table)}", node.column)
            if function.contexts and context not in function.contexts:
                return OttlError(f"the {word} {node.name} is not known in the {context} context", node.column)
        elif isinstance(node, ast.Enum) and node.name not in enums(context):
            return OttlError(
                f"unknown name {node.name} in the {context} context{did_you_mean(node.name, enums(context))}", node.column
            )
    return None
