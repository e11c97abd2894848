"""pydantic's `ValidationError` as `Problem`s: the path in the configuration, a sentence, a suggestion, no secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from kofagent.config.base import UrlError
from kofagent.config.errors import ConfigErrors, Path, Problem, Spot, suggest
from kofagent.config.redact import without_secrets
from kofagent.config.tree import Node
from kofagent.config.typed_tree import known_keys, locate


class _Said(NamedTuple):
    """What is wrong at one place. `type` is true for a value of the wrong type."""

    message: str
    hint: str
    type: bool = False
    spot: Spot | None = None


def problems_of(error: ValidationError, model: type[BaseModel], root: Node, path: Path = ()) -> list[Problem]:
    """What a model found wrong with the options at `path` below `root`."""
    base = root.get(*path) or Node({}, root.nearest(path).origin)
    said: dict[Path, list[_Said]] = {}
    for each in error.errors(include_url=False):
        at, types_at, parents = locate(each["loc"], model, base, missing=each["type"] == "missing")
        cause = (each.get("ctx") or {}).get("error")
        if isinstance(cause, ConfigErrors):
            for problem in cause.errors:
                said.setdefault((*at, *problem.path), []).append(_Said(problem.message, problem.hint, spot=problem.spot))
        else:
            said.setdefault(at, []).append(_sentence(each, types_at, parents, base.nearest(at), at))
    out = []
    for at, sentences in said.items():
        if _shadowed(at, said):
            continue
        node = base.nearest(at)
        origin = node.origin if root.get(*path) is not None else root.nearest(path).origin
        hidden = [n for _, n in node.walk() if n.hidden]
        message = scrub(", or ".join(dict.fromkeys(s.message for s in sentences)), hidden)
        hint = scrub(" or ".join(dict.fromkeys(s.hint for s in sentences if s.hint)), hidden)
        spot = None if hidden else next((s.spot for s in sentences if s.spot is not None), None)
        out.append(Problem((*path, *at), message, hint, origin.place, spot=spot))
    return out


def _shadowed(at: Path, said: dict[Path, list[_Said]]) -> bool:
    """True for a wrong type when something inside is wrong as well.

    A union reports every alternative it tried; what is deepest in the configuration is what the user meant.
    """
    deeper = any(len(other) > len(at) and other[: len(at)] == at for other in said)
    return deeper and all(s.type for s in said[at])


def _sentence(error: Any, types_at: list[Any], parents: list[Any], node: Node, at: Path) -> _Said:
    kind, context = str(error["type"]), error.get("ctx") or {}
    shown = _shown(node, types_at)
    wrong_type = kind.endswith(("_type", "_instance_of"))
    if kind == "extra_forbidden":
        return _Said("unknown key", suggest(str(at[-1]) if at else "", known_keys(parents)) or "it takes no options here")
    if kind == "missing":
        return _Said("is required", "set it")
    if isinstance(cause := context.get("error"), UrlError):
        return _Said(f"the URL{f' {shown}' if shown else ''} {cause.what}", cause.hint)
    if kind in ("value_error", "assertion_error"):
        return _Said(str(context.get("error", error["msg"])), "")
    if kind in ("literal_error", "enum"):
        hint = suggest("" if node.hidden else str(node.value), _choices(types_at))
        return _Said(f"{shown or 'the value'} is not one of the allowed values", hint)
    if kind in _WANTED:
        if _WANTED[kind] == "a map" and isinstance(node.value, str):
            shown = "a text"  # a map may be there for a secret: `authorization: abc`
        return _Said(f"must be {_WANTED[kind]}{f', not {shown}' if shown else ''}", _HINTS.get(kind, ""), wrong_type)
    if kind in _LIMITS:
        word, key, units = _LIMITS[kind]
        limit = context.get(key)
        wanted = f"{word} {limit}{units[limit != 1]}"
        return _Said(f"must be {wanted}{f', not {shown}' if shown else ''}", "")
    return _Said(str(error["msg"]), "", wrong_type)


def _choices(types_at: list[Any]) -> list[str]:
    """The values of the closed lists among these types, without the empty one."""
    literals = [str(value) for t in types_at if get_origin(t) is Literal for value in get_args(t)]
    enums = [str(each.value) for t in types_at if isinstance(t, type) and issubclass(t, Enum) for each in t]
    return [each for each in (*literals, *enums) if each]


_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "set_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a map",
    "mapping_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "dataclass_type": "a map",
    "none_required": "null",
    "finite_number": "a finite number",
}
_HINTS = {
    "string_type": "put it in quotes",
    "list_type": "write each entry on its own line after '- '",
    "dict_type": "write 'key: value' lines below it",
    "model_type": "write 'key: value' lines below it",
    "model_attributes_type": "write 'key: value' lines below it",
}
_LIMITS = {
    "greater_than": ("greater than", "gt", ("", "")),
    "greater_than_equal": ("at least", "ge", ("", "")),
    "less_than": ("less than", "lt", ("", "")),
    "less_than_equal": ("at most", "le", ("", "")),
    "too_short": ("a list with at least", "min_length", (" entry", " entries")),
    "too_long": ("a list with at most", "max_length", (" entry", " entries")),
    "string_too_short": ("a string with at least", "min_length", (" character", " characters")),
    "string_too_long": ("a string with at most", "max_length", (" character", " characters")),
}


def _shown(node: Node, types_at: list[Any]) -> str:
    """How to name the value in a message; nothing for what is or may be secret."""
    if node.is_map:
        return "a map" if node.value else "an empty map"
    if node.is_list:
        return "a list" if node.value else "an empty list"
    if node.hidden or any(isinstance(t, type) and issubclass(t, SecretStr) for t in types_at):
        return ""
    if node.value is None:
        return "null"
    text = node.text if node.text is not None else repr(node.value)
    text = without_secrets(text)
    return text if len(text) <= 60 else text[:57] + "..."


def scrub(message: str, hidden: Iterable[Node]) -> str:
    """`message` without the values of these nodes."""
    for node in hidden:
        if isinstance(node.value, dict | list) or node.value is None or isinstance(node.value, bool):
            continue
        for text in {str(node.value), node.text or ""}:
            if len(text) > 3:
                message = message.replace(text, "***").replace(repr(text)[1:-1], "***")
            elif text:
                message = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "***", message)
    return message
