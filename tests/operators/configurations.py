"""Arbitrary valid configurations of any operator, made from its options class and from examples of what cannot be made of it.

An option whose type says what it takes (a field, an expression, a choice, a number, a block) gets arbitrary values. For the others,
strings and maps, `EXAMPLES` has values; an operator without required ones of these needs no example.
"""

from __future__ import annotations

import builtins
import functools
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from kofagent.config.base import spellings
from kofagent.operators.catalog import OPERATORS
from kofagent.operators.expression import Expression
from kofagent.operators.field import Field
from kofagent.operators.operator import AnyOperator

Options = dict[str, Any]

EXAMPLES: dict[str, list[Options]] = {
    "add": [
        {"field": "attributes.x", "value": "added"},
        {"field": "attributes.n.x", "value": "nested"},
        {"field": "attributes.x.y", "value": 'EXPR(attributes.level + "!")'},
        {"field": "attributes.len", "value": "EXPR(len(body))"},
        {"field": "attributes.found", "value": 'EXPR(body contains "x")'},
        {"field": "attributes.when", "value": "EXPR(timestamp)"},
        {"field": "resource.r", "value": {"x": 1, "y": [1.5, None, True]}},
    ],
    "assign_keys": [{"field": "body.a", "keys": ["k", "l"]}, {"field": "attributes.list", "keys": ["k", "l", "m"]}],
    "container": [
        {},
        {"format": "docker"},
        {"severity": {"parse_from": 'attributes["stream"]', "mapping": {"error": "stdout"}}},
        {"format": "containerd", "add_metadata_from_filepath": False, "if": 'body contains "stdout"'},
    ],
    "csv_parser": [
        {"header": "a,b"},
        {"header": "a b", "delimiter": " ", "lazy_quotes": True},
        {"header_attribute": "static", "delimiter": ";", "header_delimiter": "|", "ignore_quotes": True},
        {"header_attribute": "level", "parse_from": 'attributes["log.file.path"]', "delimiter": "/"},
    ],
    "json_array_parser": [{}, {"header": "a,b"}, {"parse_to": "attributes.list"}],
    "key_value_parser": [{}, {"delimiter": ":", "pair_delimiter": "!"}, {"parse_from": "attributes.level"}],
    "recombine": [
        {"combine_field": "body", "is_last_entry": 'body endsWith "1"', "max_batch_size": 3},
        {"combine_field": "attributes.level", "is_first_entry": "body matches '^[a-z]'", "combine_with": ""},
        {"combine_field": "body", "is_first_entry": "false", "source_identifier": 'attributes["log.iostream"]'},
    ],
    "regex_parser": [
        {"regex": r"(?i)(?P<level>error|warn(?:ing)?|info|skip)"},
        {"regex": r"(?P<level>[a-z]{1,3})(?P<a>\d{2})?"},
        {"regex": r"(?P<a>x)|(?P<b>k)", "severity": {"parse_from": "attributes.a"}},
        {"regex": r"^(?P<uid>.*)/(?P<level>[^/]+)$", "parse_from": 'attributes["log.file.path"]'},
        {"regex": r"(?P<a>\d+)", "timestamp": {"parse_from": "attributes.a", "layout_type": "epoch", "layout": "s"}},
        {"regex": r"(?P<level>e.*?r)", "parse_to": "body"},
        {"regex": r"(?P<level>[a-z]+)", "body": "attributes.level"},
    ],
    "regex_replace": [
        {"regex": "(\\d)|x*", "replace_with": "${1}$$$a"},
        {"regex_name": "ansi_control_sequences"},
        {"regex": "o", "replace_with": "0", "field": 'attributes["log.file.name"]'},
    ],
    "router": [
        {"routes": [{"expr": "body contains 'o'", "output": "end", "attributes": {"q": "EXPR(body)"}}]},
        {"routes": [{"expr": 'body matches "i"', "output": ["end", "end"], "attributes": {"q": "x-EXPR(string(1))"}}]},
        {"routes": [{"expr": '"level" in attributes', "output": "end"}, {"expr": "body.k", "output": "end"}], "default": ["end"]},
    ],
    "severity_parser": [
        {"parse_from": "attributes.level", "mapping": {"fatal": ["panic", "2xx"], "error": {"min": 1, "max": 5}}},
        {"parse_from": "body", "preset": "none", "mapping": {"info": "ok"}},
    ],
    "syslog_parser": [
        {"protocol": "rfc5424"},
        {"protocol": "rfc3164", "location": "Europe/Berlin", "allow_skip_pri_header": True},
        {"protocol": "none", "enable_octet_counting": True},
    ],
    "time_parser": [
        {"parse_from": "body.a", "layout_type": "epoch", "layout": "s"},
        {"parse_from": "attributes.level", "layout": "%Y-%m-%dT%H:%M:%S"},
        {"parse_from": "body", "layout_type": "gotime", "layout": "2006-01-02"},
    ],
}
FIELDS = [
    "body",
    "body.a",
    "body.k",
    "attributes.a",
    "attributes.level",
    "attributes.list",
    "attributes.n.x",
    'attributes["log.iostream"]',
    'attributes["log.file.path"]',
    "resource.r",
    "resource.host",
]
CONDITIONS = [
    "true",
    'body matches "(?i)err(or)?"',
    'body contains "info"',
    'attributes.level == "error"',
    'attributes.level != "error"',
    'resource.host != "h" or attributes.static == "1"',
    '"level" in attributes',
    'not ("level" in attributes)',
    'body startsWith "x" or attributes.a == "1"',
    'attributes["log.iostream"] == "stdout"',
    "len(body) > 10",
    "body contains attributes.static",
    "attributes.level == body",
    "len(attributes) > 3",
    "attributes.n.x == 1",
    'resource.host startsWith "h"',
    "body.k == 1",
    "body < 3",
    "timestamp > 0",
    '$env["body"] == "x"',
    "now() > 0",
]
_CONNECTING = ("type", "id", "output", "default", "routes")


class Unknown(Exception):
    """An option whose values cannot be made of its type."""


def _values(name: str, annotation: Any, examples: list[Options]) -> st.SearchStrategy[Any]:
    """Values of an option, not all of them valid; Unknown."""
    given = [options[name] for options in examples if name in options]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(name, arguments[0], examples)
    if annotation is Field:
        return st.sampled_from([*FIELDS, "attributes", "resource"] if name in ("parse_to", "field") else FIELDS)
    if annotation is Expression:
        return st.sampled_from(CONDITIONS)
    if origin is Literal:
        return st.sampled_from([a for a in arguments if a])
    if origin in (Union, types.UnionType):
        return st.one_of([_values(name, a, examples) for a in arguments if a is not types.NoneType])
    if origin is list and not given:
        element = _values(name, arguments[0], examples)
        return element if element.is_empty else st.lists(element, min_size=1, max_size=3)
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.sampled_from([0, 1, 2, 30])
    if annotation is float:
        return st.sampled_from([0.0, 0.5, 1.0, 5.0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        try:
            return _block(
                annotation, [o for o in given if isinstance(o, dict)] + EXAMPLES.get(_OPERATOR_OF_BLOCK.get(name, ""), [])
            )
        except Unknown:
            return st.nothing()  # where there are other types, values of these
    if given:
        return st.sampled_from(given)
    raise Unknown(name)


_OPERATOR_OF_BLOCK = {"severity": "severity_parser", "timestamp": "time_parser"}


def _block(model: type[BaseModel], examples: list[Options]) -> st.SearchStrategy[Options]:
    """Options of a class: those of an example, others drawn over them; what is not valid then is left as it was. Unknown."""
    known = {key for name, field in model.model_fields.items() for key in spellings(name, field)}
    begins = st.sampled_from([{k: v for k, v in example.items() if k in known} for example in examples or [{}]])
    chances = st.binary(min_size=len(model.model_fields), max_size=len(model.model_fields))  # one draw for all of them
    values: dict[str, tuple[FieldInfo, st.SearchStrategy[Any]]] = {}
    # first what is required: without it nothing else is valid, so nothing else would be drawn
    for name, field in sorted(model.model_fields.items(), key=lambda item: not item[1].is_required()):
        key = spellings(name, field)[0]
        if name in _CONNECTING:
            continue
        try:
            strategy = _values(key, field.annotation, examples)
            if strategy.is_empty:
                raise Unknown(key)
            values[key] = field, strategy
        except Unknown:
            if field.is_required() and not all(key in example for example in examples or [{}]):
                raise

    @st.composite
    def made(draw: st.DrawFn) -> Options:
        options = dict(draw(begins))
        for chance, (key, (field, strategy)) in zip(draw(chances), values.items(), strict=False):
            if _wanted(chance, key in options, field):
                drawn = {**options, key: draw(strategy)}
                if field.is_required() or _is_valid(model, drawn):
                    options = drawn
        return options

    return made()


def _wanted(chance: int, given: bool, field: FieldInfo) -> bool:
    """Whether a value is drawn, by a number from 0 to 255: of one in four that are required, of one in six others."""
    if field.is_required():
        return not given or chance % 4 == 3
    return chance % 6 == 5


def _is_valid(model: type[BaseModel], options: Options) -> bool:
    try:
        model.model_validate({"type": "x", **options} if "type" in model.model_fields else options)
    except ValidationError:
        return False
    return True


@functools.cache
def configurations(type: str, operator: builtins.type[AnyOperator] | None = None) -> st.SearchStrategy[Options]:
    """Arbitrary valid options of an operator; the test fails where there is neither an example nor a way to make them."""
    model = (operator or OPERATORS[type]).Config
    try:
        options = _block(model, EXAMPLES.get(type, []))
    except Unknown as error:
        pytest.fail(f"give tests/operators/configurations.py an example of {type}: it cannot make values of {error}")
    return options.map(lambda drawn: {"type": type, **drawn}).filter(lambda options: _is_valid(model, options))
