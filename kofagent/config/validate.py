"""A tree whose references are resolved to validated options; everything that is wrong with it at once."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from kofagent.config.base import AS_WRITTEN, ComponentConfig, spellings
from kofagent.config.errors import Path, Problem, suggest
from kofagent.config.model import PROFILES, SECTIONS, SIGNALS, ServiceConfig
from kofagent.config.references import Registry, references
from kofagent.config.secrets import masks
from kofagent.config.tree import Node
from kofagent.config.typed_tree import locate, marked
from kofagent.config.unused import notices
from kofagent.config.upstream_types import is_upstream
from kofagent.config.validation_errors import problems_of

_log = logging.getLogger("kofagent.config")
_READINGS = 3
"""How often options are read, each time with more of what came from references as text."""
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
    root = _without_profiles(root, registry, out)
    for key in root.names():
        if key not in (*SECTIONS, "service"):
            out.problems.append(root.problem((key,), "unknown section", suggest(key, (*SECTIONS, "service"))))
    for kind in SECTIONS:
        _components(root, kind, registry, out)
    _service(root, registry, absent, out)
    return out


def _without_profiles(root: Node, registry: Registry, out: Validated) -> Node:
    """The configuration without pipelines of profiles, a signal that is not known here, and what only they need.

    That is components of types that are not known either: a receiver of profiles. The same tree when there are no such pipelines.
    """
    pipelines = root.get("service", "pipelines")
    if pipelines is None or not pipelines.is_map:
        return root
    names = [name for name in pipelines.names() if name.split("/", 1)[0] == PROFILES]
    if not names:
        return root
    lists = {(name, kind): pipelines.get(name, kind) for name in pipelines.names() for kind in SECTIONS}
    used = {
        here: {
            (kind, item.value)
            for (name, kind), node in lists.items()
            if (name in names) is here and node is not None and node.is_list
            for item in node.value
            if isinstance(item.value, str)
        }
        for here in (True, False)
    }
    root = root.copy()
    for name in names:
        path = ("service", "pipelines", name)
        hint = "its receivers and exporters go on in other pipelines"
        out.problems.append(root.problem(path, "profiles are not supported, so the pipeline is left out", hint, warning=True))
        del root.value["service"].value["pipelines"].value[name]
    for kind, id in sorted(used[True] - used[False]):
        section = root.get(kind)
        if section is not None and section.is_map and id in section.value and registry.resolve(kind, registry.type_of(id)) is None:
            message = f"only pipelines of profiles use it, so the {kind[:-1]} is left out"
            out.problems.append(root.problem((kind, id), message, warning=True))
            del section.value[id]
    return root


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
        _inner(root, path, model, registry, out)
        options = _options(root, path, model, out)
        if options is not None:
            out.components[kind][id] = options


def _inner(root: Node, path: Path, model: type[ComponentConfig], registry: Registry, out: Validated) -> None:
    """Checks the options of components that this one starts. Texts that they want as they were written are put into the tree."""
    node = root.get(*path)
    for each in model.inner(node) if node is not None and node.is_map else ():
        at, kind, type = (*path, *each.path), each.kind, registry.type_of(each.id)
        if registry.resolve(kind, type) is None:
            out.problems.append(root.problem(at[:-1], f"unknown {kind[:-1]} type {type!r}", _other_types(kind, type, registry)))
            continue
        try:
            inner = registry.load(kind, type).Config
        except ImportError as error:
            out.problems.append(root.problem(at[:-1], f"the {kind[:-1]} cannot be loaded: {error}", "install what it requires"))
            continue
        if inner is model:
            out.problems.append(root.problem(at[:-1], f"a {type} cannot start another one", "remove it"))
            continue
        if each.node.value is not None and not each.node.is_map:
            continue  # that is said of the option itself
        content = each.node
        content.value = content.value or {}
        known = {key for name, field in inner.model_fields.items() for key in spellings(name, field)}
        content.value |= {k: Node(v, content.origin) for k, v in each.given.items() if k in known and k not in content.value}
        settled, value, wrong = _read(content, inner)
        found = problems_of(wrong, inner, settled) if wrong is not None else []
        out.problems += [p.under(at) for p in found if p.path not in each.loose or p.message == "unknown key"]
        if value is not None:
            out.problems += [replace(p.under(at), place=settled.nearest(p.path).origin.place) for p in notices(value, settled)]
        for below, scalar in settled.walk():
            target = root.get(*at, *below)
            if target is not None and below not in each.loose and not isinstance(scalar.value, dict | list):
                target.value = scalar.value


def _other_types(kind: str, type: str, registry: Registry) -> str:
    for other in SECTIONS:
        if other != kind and registry.resolve(other, type) is not None:
            return f"it is one of the {other}: move it there"
    if is_upstream(kind, type):
        return "the Go collector has it, kofagent does not; docs/components lists what there is"
    types = registry.TYPES.get(kind, ())
    return suggest(type, (*types, *registry.ALIASES.get(kind, {})), limit=0) or suggest(type, types, limit=30)


def _options(root: Node, path: Path, model: type[ComponentConfig], out: Validated) -> Any:
    """Validated options of one block, None after adding errors."""
    node = root.get(*path) or Node(None)
    if node.value is not None and not node.is_map:
        out.problems.append(root.problem(path, "must be a map of options", "write 'option: value' lines below it"))
        return None
    try:
        _, value, error = _read(node, model)
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


def _read(node: Node, model: type[ComponentConfig]) -> tuple[Node, ComponentConfig | None, ValidationError | None]:
    """Validates; the tree that counts comes first.

    A value that should be a string, but reads as something else, is tried again as it was written.

    That is for references (a password of digits). A reference to something empty is tried again as null, which is the default,
    one to a variable that is not set as null, then as empty text.
    """
    node = _as_written(node, model)
    for _ in range(_READINGS):
        try:
            return node, model.model_validate(node.plain() or {}), None
        except ValidationError as error:
            again, failed = _as_strings(node, error, model), error
        if again is None:
            break
        node = again
    return node, None, failed


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
        if found is not None and found.is_map and each["type"] == "value_error":
            # The block as a whole lacks something: perhaps what a variable that is not set would have been.
            for key in [key for key, below in found.value.items() if below.hidden and below.value is None and below.text == ""]:
                copy = copy or node.copy()
                unset = copy.get(*path, key)
                assert unset is not None
                unset.value = ""
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
