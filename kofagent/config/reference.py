"""The reference of components as Markdown: one page each, from its docstring and its options class."""

from __future__ import annotations

import inspect
import os
import re
import sys
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kofagent.config.base import ByteSize, Duration, spellings
from kofagent.config.model import SECTIONS
from kofagent.config.references import Registry
from kofagent.config.schema import duration_text
from kofagent.config.typed_tree import alternatives

_WORDS = {
    "Any": "anything",
    "Expression": "expression",
    "Field": "field",
    "object": "anything",
    "str": "string",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "dict": "map",
    "list": "list",
}
_MARKERS = {id(get_args(Duration)[1]): "duration", id(get_args(ByteSize)[1]): "size"}


def write_reference(registry: Registry, directory: str, operators: Mapping[str, Any] | None = None) -> list[str]:
    """Writes `README.md` and one page per component into a directory; returns the files' names, relative to it.

    `operators` are the stanza operators by type, which get one page each.
    """
    os.makedirs(directory, exist_ok=True)
    pages = {
        f"{kind}/{type}.md": component_page(registry, kind, type)
        for kind in SECTIONS
        for type in sorted(registry.TYPES.get(kind, ()))
    }
    pages |= {f"operators/{type}.md": options_page(type, "operator", operator) for type, operator in (operators or {}).items()}
    pages["README.md"] = index_page(registry, operators)
    for name, text in pages.items():
        file = os.path.join(directory, name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "w", encoding="utf-8") as handle:
            handle.write(text)
    return sorted(pages)


def index_page(registry: Registry, operators: Mapping[str, Any] | None = None) -> str:
    """The list of all components with a sentence each."""
    lines = ["# Components", "", "Generated from the code by `kofagent components --docs DIR`.", ""]
    lines += ["Why data is refused or dropped: [reasons](reasons.md).", ""]
    lines += ["Functions of `transform`, `filter` and `routing`: [functions](ottl-functions.md).", ""]
    for kind in SECTIONS:
        if registry.TYPES.get(kind):
            lines += [f"## {kind.capitalize()}", ""]
            lines += [_entry(kind, type, _docstring(registry.load(kind, type))) for type in sorted(registry.TYPES[kind])]
            lines.append("")
    if operators:
        lines += ["## Operators", "", "Steps of `filelog`'s `operators`.", ""]
        lines += [_entry("operators", type, _file_docstring(operators[type])) for type in sorted(operators)]
        lines.append("")
    return "\n".join(lines)


def _entry(kind: str, type: str, about: str | None) -> str:
    summary = inspect.cleandoc(about or "").split("\n\n")[0]
    return f"- [{type}]({kind}/{type}.md): {' '.join(summary.split()).removeprefix(f'`{type}`: ')}"


def options_page(type: str, kind: str, component: Any) -> str:
    """What an operator promises, from the docstring of its file, and all its options."""
    about = _file_docstring(component)
    return "\n".join([f"# {type} ({kind})", "", about, "", "## Options", "", *_options(component.Config)]) + "\n"


def component_page(registry: Registry, kind: str, type: str) -> str:
    """What a component promises and all its options with their defaults, nested blocks below."""
    component = registry.load(kind, type)
    name = registry.resolve(kind, type) or type
    others = sorted(old for old, new in registry.ALIASES.get(kind, {}).items() if new == name)
    lines = [f"# {name} ({kind[:-1]})", ""]
    if others:
        lines += [f"Also written {', '.join(f'`{o}`' for o in others)}.", ""]
    signals = sorted(s.value for s in getattr(component, "signals", ()))
    if signals and kind != "extensions":
        lines += [f"Signals: {', '.join(signals)}.", ""]
    lines += [_docstring(component), "", "## Options", "", *_options(component.Config)]
    return "\n".join(lines) + "\n"


def _options(config: type[BaseModel]) -> list[str]:
    lines = _table(config)
    for path, model in _blocks(config):
        about = _plain_doc(model)
        lines += ["", f"### `{path}`", "", *([about, ""] if about else []), *_table(model)]
    return lines


def _docstring(component: Any) -> str:
    """The docstring of the component's module, which says what it promises; else of its class."""
    module = sys.modules.get(getattr(component, "__module__", ""))
    if isinstance(component, type) and module is not None and module.__doc__:
        package = sys.modules.get(module.__name__.rpartition(".")[0])
        # A component in a folder has its docstring in the package.
        if package is not None and package.__doc__ and module.__name__.count(".") > 2:
            return inspect.cleandoc(package.__doc__)
        return inspect.cleandoc(module.__doc__)
    return inspect.cleandoc(component.__doc__ or "")


def _file_docstring(component: type) -> str:
    return inspect.cleandoc(sys.modules[component.__module__].__doc__ or "")


def _plain_doc(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__dict__.get("__doc__") or "")


def _table(model: type[BaseModel]) -> list[str]:
    if not model.model_fields:
        return ["It has no options."]
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        key, *others = [s for s in spellings(name, field) if s != f"{s.rstrip('_')}_"] or [name]
        also = f" Also written {', '.join(f'`{o}`' for o in others)}." if others else ""
        meaning = f"{field.description or ''}{also}{_limits(field)}".strip()
        lines.append(f"| `{key}` | {_cell(type_name(field))} | {_cell(default_text(field))} | {_cell(meaning)} |")
    return lines


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _limits(field: FieldInfo) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    said = [f"{words[name]} {getattr(m, name)}" for m in field.metadata for name in words if getattr(m, name, None) is not None]
    return f" ({', '.join(said)})" if said else ""


def _blocks(model: type[BaseModel], path: str = "", seen: tuple[type, ...] = ()) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every nested block with its place, `[]` for entries of a list and `*` for keys of a map; a block inside itself once."""
    for name, field in model.model_fields.items():
        for suffix, block in _models(field.annotation):
            at = f"{path}{spellings(name, field)[0]}{suffix}"
            if block in seen or not block.model_fields:
                continue
            yield at, block
            yield from _blocks(block, f"{at}.", (*seen, block))


def _models(annotation: Any, suffix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    for each in alternatives(annotation):
        args = get_args(each)
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield suffix, each
        elif get_origin(each) in (dict,) and len(args) == 2:
            yield from _models(args[1], f"{suffix}.*")
        elif get_origin(each) in (list, tuple, set, frozenset) and args:
            yield from _models(args[0], f"{suffix}[]")


def type_name(field: FieldInfo) -> str:
    """The type of an option in words a user of YAML knows."""
    marked = next((_MARKERS[id(m)] for m in field.metadata if id(m) in _MARKERS), None)
    return marked or _name(field.annotation)


def _name(annotation: Any) -> str:
    if get_origin(annotation) is typing.Annotated:
        marked = next((_MARKERS[id(m)] for m in get_args(annotation)[1:] if id(m) in _MARKERS), None)
        return marked or _name(get_args(annotation)[0])
    args, origin = get_args(annotation), get_origin(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" if a != "" else "empty" for a in args)
    if origin in (list, set, frozenset, tuple):
        return f"list of {_name(args[0])}" if args else "list"
    if origin is dict:
        return f"map of {_name(args[1])}" if len(args) == 2 and args[1] is not Any else "map"
    if args:
        return " or ".join(dict.fromkeys(_name(a) for a in args if a is not type(None)))
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            return "block"
        if issubclass(annotation, SecretStr):
            return "secret"
        if issubclass(annotation, Enum):
            return ", ".join(f"`{e.value}`" for e in annotation)
        return _WORDS.get(annotation.__name__, annotation.__name__)
    return "anything"


def default_text(field: FieldInfo) -> str:
    """The default as it would be written, `required` without one and nothing for an absent block."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    if isinstance(value, SecretStr):
        return ""
    if type_name(field) == "duration" and isinstance(value, int | float):
        return f"`{duration_text(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, dict):
        return "`{}`" if not value else "`" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "`"
    if isinstance(value, list | tuple | set | frozenset):
        return "`[" + ", ".join("block" if isinstance(v, BaseModel) else str(v) for v in value) + "]`"
    return f"`{value}`" if value != "" else '`""`'
