"""A tree whose references are resolved to validated options; everything that is wrong with it at once."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from kofagent.config.base import AS_WRITTEN, EXTENSION, ComponentConfig
from kofagent.config.errors import Path, Problem, suggest
from kofagent.config.model import SECTIONS, SIGNALS, ServiceConfig
from kofagent.config.tree import Node
from kofagent.config.typed_tree import locate, marked
from kofagent.config.unused import notices
from kofagent.config.validation_errors import problems_of

_log = logging.getLogger("kofagent.config")
_TYPE = re.compile(r"[a-zA-Z][0-9a-zA-Z_]{0,62}\Z")


class Registry(Protocol):
    """What is asked about component types. `kofagent.component.registry` stands above this room; a test has made-up components."""

    TYPES: dict[str, tuple[str, ...]]
    ALIASES: dict[str, dict[str, str]]

    def type_of(self, id: str) -> str:
        """The type in a component's name."""
        ...

    def resolve(self, kind: str, type: str) -> str | None:
        """The registered spelling of a type, None if it is not registered."""
        ...

    def load(self, kind: str, type: str) -> Any:
        """The class of a component, with its options class in `Config`."""
        ...


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
    return suggest(type, (*registry.TYPES.get(kind, ()), *registry.ALIASES.get(kind, {})), limit=30)


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
    _references(root, registry, absent, out)


def _called(root: Node, path: Path) -> str:
    """A component's name as a message may show it: values from the environment are not shown."""
    node = root.get(*path)
    return "named here" if node is None or node.hidden else repr(node.value)


def _names(root: Node, path: Path) -> list[tuple[Path, str]]:
    """The texts of a list in the configuration, with their paths."""
    node = root.get(*path)
    if node is None or not node.is_list:
        return []
    return [((*path, i), item.value) for i, item in enumerate(node.value) if isinstance(item.value, str)]


def _references(root: Node, registry: Registry, absent: Collection[str], out: Validated) -> None:
    """References to components must refer to existing ones, and every component should be referenced."""
    defined = {kind: set((root.get(kind) or Node({})).names()) for kind in SECTIONS}
    for kind in ("receivers", "exporters"):
        for id in sorted(defined[kind] & defined["connectors"]):
            out.problems.append(root.problem(("connectors", id), f"{id!r} is also one of the {kind}", "rename one of them"))
    used: set[tuple[str, str]] = set()
    pipelines = root.get("service", "pipelines")
    names = pipelines.names() if pipelines is not None else []
    if not names:
        out.problems.append(root.problem(("service", "pipelines"), "there is no pipeline", "add one, such as 'logs:'"))
    for name in names:
        path = ("service", "pipelines", name)
        for kind in ("receivers", "processors", "exporters"):
            used |= _pipeline_end(root, (*path, kind), defined, absent, out)
    started = set()
    for at, id in _names(root, ("service", "extensions")):
        used.add(("extensions", id))
        started.add(id)
        if id not in defined["extensions"]:
            hint = _define("extensions", id, defined["extensions"])
            out.problems.append(root.problem(at, f"the extension {_called(root, at)} is not defined", hint))
    for kind in SECTIONS:
        for id in sorted(defined[kind]):
            if (kind, id) not in used:
                where = "service.extensions" if kind == "extensions" else "a pipeline"
                out.problems.append(root.problem((kind, id), f"is not used by {where}", "name it there or remove it", warning=True))
                continue
            for at, extension in extension_names(root, registry, (kind, id)):
                if extension not in defined["extensions"]:
                    hint = _define("extensions", extension, defined["extensions"])
                    out.problems.append(root.problem(at, f"the extension {_called(root, at)} is not defined", hint))
                elif extension not in started:
                    hint = "add it to service.extensions"
                    out.problems.append(root.problem(at, f"the extension {_called(root, at)} is not started", hint))


def _pipeline_end(
    root: Node, path: Path, defined: dict[str, set[str]], absent: Collection[str], out: Validated
) -> set[tuple[str, str]]:
    """Checks one list of a pipeline; returns the components it names as (section, id)."""
    kind, used = str(path[-1]), set()
    named = _names(root, path)
    if not named and kind != "processors":
        node = root.get(*path)
        if node is None or not node.value:
            out.problems.append(root.problem(path, f"the pipeline has no {kind}", f"name at least one of the {kind}"))
    seen: set[str] = set()
    for at, id in named:
        if id in seen:
            message = f"{_called(root, at)} is named twice in this pipeline"
            out.problems.append(root.problem(at, message, "name it once", warning=kind != "processors"))
        seen.add(id)
        if id in defined[kind]:
            used.add((kind, id))
        elif kind != "processors" and id in defined["connectors"]:
            used.add(("connectors", id))
        elif id not in absent:
            choices = defined[kind] | (defined["connectors"] if kind != "processors" else set())
            out.problems.append(root.problem(at, f"the {kind[:-1]} {_called(root, at)} is not defined", _define(kind, id, choices)))
    return used


def _define(kind: str, id: str, choices: set[str]) -> str:
    near = suggest(id, choices, limit=0)
    defined = f" (defined: {', '.join(sorted(choices)[:16])})" if choices else ""
    return near or f"define it under {kind}{defined}"


def extension_names(root: Node, registry: Registry, path: Path) -> Iterator[tuple[Path, str]]:
    """Every extension that the options of one component name: authenticators and storages."""
    kind, id = str(path[0]), str(path[1])
    node, type = root.get(*path), registry.type_of(id)
    if node is None or registry.resolve(kind, type) is None:
        return
    try:
        model = registry.load(kind, type).Config
    except ImportError:
        return
    for below, each in marked(node, model, EXTENSION):
        if isinstance(each.value, str) and each.value:
            yield (*path, *below), each.value
