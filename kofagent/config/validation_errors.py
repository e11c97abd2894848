"""pydantic's `ValidationError` as `ConfigError`s: the path in the configuration, a sentence, a suggestion, no secret."""

from __future__ import annotations

import re
import types
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from kofagent.config.base import spellings
from kofagent.config.errors import ConfigError, Path, suggest, without_login
from kofagent.config.tree import Node


def complaints(error: ValidationError, model: type[BaseModel], root: Node, path: Path) -> list[ConfigError]:
    """What a model found wrong with the options at `path` below `root`."""
    base = root.get(*path) or Node({}, root.nearest(path).origin)
    by_path: dict[Path, list[tuple[Any, Any]]] = defaultdict(list)
    for each in error.errors(include_url=False):
        at, types_at, parents = locate(each["loc"], model, base, missing=each["type"] == "missing")
        by_path[at].append((each, (types_at, parents)))
    if any(len(at) for at in by_path):
        # A union reports every branch it tried; what stands deepest in the configuration is what the user meant.
        by_path = {at: found for at, found in by_path.items() if not _shadowed(at, found, by_path)}
    out = []
    for at, found in _by_sentence(by_path, base).items():
        node = base.nearest(at)
        sentences: list[tuple[str, str]] = []
        for each, (types_at, parents) in found:
            sentence = _sentence(each, types_at, parents, node, at)
            if sentence not in sentences:
                sentences.append(sentence)
        origin = _line(base, at, root, path)
        hidden = [n for _, n in node.walk() if n.hidden]
        message = scrub(", or ".join(dict.fromkeys(s[0] for s in sentences)), hidden)
        hint = scrub(" or ".join(dict.fromkeys(s[1] for s in sentences if s[1])), hidden)
        out.append(ConfigError(origin.file, origin.line, (*path, *at), message, hint))
    return out


def _by_sentence(by_path: dict[Path, list[tuple[Any, Any]]], base: Node) -> dict[Path, list[tuple[Any, Any]]]:
    """Takes errors apart that hold several sentences (`problems`), each beginning with its place."""
    out: dict[Path, list[tuple[Any, Any]]] = {}
    for at, found in by_path.items():
        for each, known in found:
            problems = getattr((each.get("ctx") or {}).get("error"), "problems", None)
            if not problems:
                out.setdefault(at, []).append((each, known))
            for sentence in problems or ():
                place, rest = place_of(str(sentence), base, at)
                out.setdefault(place, []).append(({**each, "msg": rest, "ctx": {}}, known))
    return out


_PLACE = re.compile(r"([A-Za-z_][\w/-]*(?:\[\d+\])*(?:\.[A-Za-z_][\w/-]*(?:\[\d+\])*)*): (?=\S)")


def place_of(sentence: str, base: Node, at: Path = ()) -> tuple[Path, str]:
    """The path a sentence begins with (`operators[3].regex: ...`), below `at` or beside it, and the rest of the sentence."""
    match = _PLACE.match(sentence)
    if match is None:
        return at, sentence
    path: list[str | int] = [int(p[1:-1]) if p[0] == "[" else p for p in re.findall(r"\[\d+\]|[^.\[\]]+", match[1])]
    for start in (at, at[:-1]):
        if base.get(*start, path[0]) is not None:
            return (*start, *path), sentence[match.end() :]
    return at, sentence


def _line(base: Node, at: Path, root: Node, path: Path) -> Any:
    return base.nearest(at).origin if root.get(*path) is not None else root.nearest(path).origin


def _shadowed(at: Path, found: Sequence[tuple[Any, Any]], all_paths: Iterable[Path]) -> bool:
    """True for a `wrong type` of a union branch when another branch complains about something inside."""
    deeper = any(len(other) > len(at) and other[: len(at)] == at for other in all_paths)
    return deeper and all(each["type"].endswith(("_type", "_instance_of")) for each, _ in found)


def locate(loc: Sequence[Any], model: Any, base: Node, *, missing: bool) -> tuple[Path, list[Any], list[Any]]:
    """The path in the configuration of a pydantic location, the types expected there, and the types of what holds it.

    Names of union branches and of validators in the location are left out of the path.
    """
    path: list[str | int] = []
    node: Node | None = base
    types_at, parents = flatten(model), flatten(model)
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
    return tuple(path), types_at, parents


def flatten(annotation: Any) -> list[Any]:
    """The alternatives of a union, without `Annotated` and None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return flatten(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [t for arg in get_args(annotation) for t in flatten(arg) if t is not type(None)]
    return [annotation]


def _step(annotation: Any, part: Any) -> list[Any]:
    """The types below a key or index of a value of this type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if part in spellings(name, field):
                return flatten(field.annotation)
        return []
    origin, args = get_origin(annotation), get_args(annotation)
    if not args or not isinstance(origin, type):
        return []
    if issubclass(origin, dict) or origin.__name__ == "Mapping":
        return flatten(args[1])
    if issubclass(origin, list | set | frozenset | tuple) or origin.__name__ == "Sequence":
        return flatten(args[0]) if isinstance(part, int) else []
    return []


def known_keys(types_at: Iterable[Any]) -> list[str]:
    """Keys of the blocks among these types."""
    return [
        spellings(name, field)[0]
        for t in types_at
        if isinstance(t, type) and issubclass(t, BaseModel)
        for name, field in t.model_fields.items()
    ]


def _sentence(error: Any, types_at: list[Any], parents: list[Any], node: Node, at: Path) -> tuple[str, str]:
    kind, context = str(error["type"]), error.get("ctx") or {}
    shown = _shown(node, types_at)
    if kind == "extra_forbidden":
        return "unknown key", suggest(str(at[-1]) if at else "", known_keys(parents)) or "it takes no options here"
    if kind == "missing":
        return "is required and missing", "set it"
    if kind in ("value_error", "assertion_error"):
        text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
        message, _, hint = in_words(text).partition("; ")
        return message, hint
    if kind in ("literal_error", "enum"):
        choices = [c.strip(" '") for c in re.split(r", | or ", str(context.get("expected", "")))]
        hint = suggest("" if node.hidden else str(node.value), [c for c in choices if c])
        return f"{shown or 'this value'} is none of the known values", hint
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}{f', not {shown}' if shown else ''}", _HINTS.get(kind, "")
    if kind in _LIMITS:
        word, key = _LIMITS[kind]
        return f"must be {word} {context.get(key)}{f', not {shown}' if shown else ''}", ""
    return in_words(str(error["msg"])), ""


def in_words(message: str) -> str:
    """One of pydantic's own sentences in ours; any other sentence as it is."""
    found = re.match(r"Input should be (?:a valid (\w+)|(.*))", message)
    if found is None:
        return message
    return f"must be {_VALID.get(found[1], found[1]) if found[1] else found[2]}"


_VALID = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "dictionary": "a map",
    "list": "a list",
    "set": "a list",
    "tuple": "a list",
}


_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
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
    "list_type": "write each entry on a line of its own after '- '",
    "dict_type": "write 'key: value' lines below it",
    "model_type": "write 'key: value' lines below it",
    "model_attributes_type": "write 'key: value' lines below it",
}
_LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "too_short": ("a list of at least", "min_length"),
    "too_long": ("a list of at most", "max_length"),
    "string_too_short": ("a text of at least", "min_length"),
    "string_too_long": ("a text of at most", "max_length"),
}


def _shown(node: Node, types_at: list[Any]) -> str:
    """How to name the value in a message; nothing for what is or may be secret."""
    if node.is_map:
        return "a map"
    if node.is_list:
        return "a list"
    if node.hidden or any(isinstance(t, type) and issubclass(t, SecretStr) for t in types_at):
        return ""
    if node.value is None:
        return "null"
    text = node.text if node.text is not None else repr(node.value)
    text = without_login(text)
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
