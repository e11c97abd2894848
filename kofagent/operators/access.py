"""What an operator reads and writes, as it declares it: the compiler may do work ahead only for operators that say so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from kofagent.operators.expression import Expression
from kofagent.operators.field import Field
from kofagent.operators.regex import Pattern
from kofagent.operators.template import Template


@dataclass(frozen=True, slots=True)
class Access:
    """A promise of an operator. What it does to an entry depends on nothing but the entry, and it keeps nothing from one entry to
    the next. It neither reads nor sets the times. It reads and writes the body only by these fields, expressions and search;
    attributes, resource, severity, trace and scope it may use as it likes.

    `search` is matched against the whole body: `entry.lifted[operator]` then has its named groups, None where it does not match.
    """

    fields: tuple[Field, ...]
    expressions: tuple[Expression, ...]
    search: Pattern | None = None

    @classmethod
    def of(cls, options: BaseModel, *, leaving_out: str = "", search: Pattern | None = None) -> Access:
        """The fields and expressions in the options, those of nested blocks included; the option `leaving_out` is not looked at."""
        found = [v for name in type(options).model_fields if name != leaving_out for v in _inside(getattr(options, name))]
        return cls(tuple(v for v in found if isinstance(v, Field)), tuple(v for v in found if isinstance(v, Expression)), search)


def _inside(value: Any) -> Iterator[Field | Expression]:
    if isinstance(value, Field | Expression):
        yield value
    elif isinstance(value, Template):
        yield from value.expressions
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _inside(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _inside(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _inside(inner)
