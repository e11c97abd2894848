"""A tree whose references are resolved to validated options; everything that is wrong with it at once."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from kofagent.config.base import AS_WRITTEN, ComponentConfig
from kofagent.config.errors import Path, Problem, suggest
from kofagent.config.model import SECTIONS, SIGNALS, ServiceConfig
from kofagent.config.references import Registry, references
from kofagent.config.secrets import masks
from kofagent.config.tree import Node
from kofagent.config.typed_tree import locate, marked
from kofagent.config.unused import notices
from kofagent.config.validation_errors import problems_of

_log = logging.getLogger("kofagent.config")
_TYPE = re.compile(r"[a-zA-Z][0-9a-zA-Z_]{0,62}\Z")


@dataclass
class Validated:
    """Options by section and id, the service, and what is wrong. With errors, only what could be read is there."""

    components: dict[str, dict[str, ComponentConfig]] = field(default_factory=lambda: {kind: {} for kind in SECTIONS})
    service: ServiceConfig = field(default_factory=ServiceConfig)
    problems: list[Problem] = field(default_factory=list)


def validate(root: Node, registry: Registry, absent: Collection[str] = ()) -> Validated:
    """Validates a whole configuration; never raises for what a user wrote. References to `absent` components are allowed."""
    out = Validated()
    for key in root.names():
        if key not in (*SECTIONS, "service"):
            out.problems.append(root.problem((key,), "unknown section", suggest(key, (*SECTIONS, "service"))))
    for kind in SECTIONS:
        _components(root, kind, registry, out)
    _service(root, registry, absent, out)
    return out


def _components(root: Node, kind: str, registry: Registry, out: Validated) -> None:
    section = root.get(kind)
    if section is None or section.value is None:
        return
    if not section.is_map:
        out.problems.append(root.problem((kind,), "must be a map of components", "write 'name:' lines below it"))
        return
    for id in section.names():
        path = (kind, id)
        type, slash, name = id.partition("/")
        if not _TYPE.match(type) or (slash and not name.strip()):
            out.problems.append(root.problem(path, f"{id!r} is not a valid component name", "write type or type/name"))
            continue
        if registry.resolve(kind, type) is None:
            out.problems.append(root.problem(path, f"unknown {kind[:-1]} type {type!r}", _other_types(kind, type, registry)))
            continue
        try:
            model = registry.load(kind, type).Config
        except ImportError as error:
            out.problems.append(root.problem(path, f"the {kind[:-1]} cannot be loaded: {error}", "install what it requires"))
            continue
        options = _options(root, path, model, out)
        if options is not None:
            out.components[kind][id] = options


def _other_types(kind: str, type: str, registry: Registry) -> str:
    for other in SECTIONS:
        if other != kind and registry.resolve(other, type) is not None:
            return f"it is one of the {other}: move it there"
    types = registry.TYPES.get(kind, ())
    return suggest(type, (*types, *registry.ALIASES.get(kind, {})), limit=0) or suggest(type, types, limit=30)


def _options(root: Node, path: Path, model: type[ComponentConfig], out: Validated) -> Any:
    """Validated options of one block, None after adding errors."""
    node = root.get(*path) or Node(None)
    if node.value is not None and not node.is_map:
        out.problems.append(root.problem(path, "must be a map of options", "write 'option: value' lines below it"))
        return None
    try:
        value, error = _read(node, model)
    except (TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as unforeseen:
        _log.debug("%s", path, exc_info=True)
        kind = type(unforeseen).__name__
        out.problems.append(root.problem(path, f"the options cannot be read ({kind})", "compare them with the reference"))
        return None
    if error is not None:
        out.problems += problems_of(error, model, root, path)
    out.problems += [root.problem((*path, *at), p.message, p.hint) for at, p in masks(node, model)]
    if value is None:
        return None
    out.problems += [root.problem((*path, *p.path), p.message, p.hint, warning=True) for p in notices(value, node)]
    return value


def _read(node: Node, model: type[ComponentConfig]) -> tuple[ComponentConfig | None, ValidationError | None]:
    """Validates; a value that should be a string, but reads as something else, is tried again as it was written.

    That is for references (a password of digits). A reference to something empty is tried again as null, which is the default.
    """
    node = _as_written(node, model)
    try:
        return model.model_validate(node.plain() or {}), None
    except ValidationError as error:
        again = _as_strings(node, error, model)
        if again is None:
            return None, error
    try:
        return model.model_validate(again.plain() or {}), None
    except ValidationError as error:
        return None, error


def _as_written(node: Node, model: type[ComponentConfig]) -> Node:
    """The tree with the text of every scalar whose option counts as it is written; without such options the same tree."""
    found = [path for path, each in marked(node, model, AS_WRITTEN) if each.text is not None and each.value is not None]
    copy = node.copy() if found else node
    for path in found:
        if (target := copy.get(*path)) is not None:
            target.value = target.text
    return copy


def _as_strings(node: Node, error: ValidationError, model: type[BaseModel]) -> Node | None:
    copy: Node | None = None
    for each in error.errors(include_url=False):
        path = locate(each["loc"], model, node, missing=each["type"] == "missing").path
        found = node.get(*path)
        if found is None or not found.hidden:
            continue
        wants_text = each["type"] in ("string_type", "literal_error", "bytes_type")
        if found.text is not None if wants_text else found.value == "":
            copy = copy or node.copy()
            target = copy.get(*path)
            assert target is not None
            target.value = found.text if wants_text else None
    return copy


def _service(root: Node, registry: Registry, absent: Collection[str], out: Validated) -> None:
    service = root.get("service")
    if service is None or service.value is None:
        out.problems.append(root.problem(("service",), "is required", "add service.pipelines with a pipeline to run"))
        return
    before = len(out.problems)
    pipelines = service.get("pipelines")
    if pipelines is not None and pipelines.is_map:
        for name in pipelines.names():
            signal, slash, rest = name.partition("/")
            if signal not in SIGNALS or (slash and not rest.strip()):
                hint = suggest(signal, SIGNALS) if signal not in SIGNALS else "write signal or signal/name"
                out.problems.append(root.problem(("service", "pipelines", name), f"{name!r} is not a valid pipeline name", hint))
    value = _options(root, ("service",), ServiceConfig, out)
    if value is not None:
        out.service = value
    elif len(out.problems) > before and pipelines is None:
        return
    out.problems += references(root, registry, out.components, absent)
