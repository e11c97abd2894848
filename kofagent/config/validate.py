"""A tree whose references are resolved to validated options; everything that is wrong with it at once."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings as python_warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel, ValidationError

from kofagent.config.base import ComponentConfig
from kofagent.config.blocks import HttpClientBlock
from kofagent.config.errors import ConfigError, Path, suggest, without_login
from kofagent.config.model import SECTIONS, SIGNALS, ServiceConfig
from kofagent.config.tree import Node
from kofagent.config.validation_errors import complaints, locate, place_of

_log = logging.getLogger("kofagent.config")
_TYPE = re.compile(r"[a-zA-Z][0-9a-zA-Z_]{0,62}\Z")
_URL_KEYS = ("endpoint", "logs_endpoint", "metrics_endpoint", "traces_endpoint")


class Registry(Protocol):
    """What is asked about component types: `kofagent.component.registry`, or something like it in a test."""

    TYPES: dict[str, tuple[str, ...]]
    ALIASES: dict[str, dict[str, str]]

    def type_of(self, id: str) -> str:
        """The type in a component's name."""
        ...

    def resolve(self, kind: str, type: str) -> str | None:
        """The registered spelling of a type, None when there is none."""
        ...

    def load(self, kind: str, type: str) -> Any:
        """The class of a component, with its options class in `Config`."""
        ...


@dataclass
class Validated:
    """Options by section and id, the service, and what is wrong. With errors, only what could be read is there."""

    components: dict[str, dict[str, ComponentConfig]] = field(default_factory=lambda: {kind: {} for kind in SECTIONS})
    service: ServiceConfig = field(default_factory=ServiceConfig)
    errors: list[ConfigError] = field(default_factory=list)
    warnings: list[ConfigError] = field(default_factory=list)


def validate(root: Node, registry: Registry) -> Validated:
    """Validates a whole configuration; never raises for what a user wrote."""
    out = Validated()
    for key in root.names():
        if key not in (*SECTIONS, "service"):
            out.errors.append(root.error((key,), "unknown section", suggest(key, (*SECTIONS, "service"))))
    for kind in SECTIONS:
        _components(root, kind, registry, out)
    _service(root, out)
    return out


def _components(root: Node, kind: str, registry: Registry, out: Validated) -> None:
    section = root.get(kind)
    if section is None or section.value is None:
        return
    if not section.is_map:
        out.errors.append(root.error((kind,), "must be a map of components", "write 'name:' lines below it"))
        return
    for id in section.names():
        path = (kind, id)
        type, slash, name = id.partition("/")
        if not _TYPE.match(type) or (slash and not name.strip()):
            out.errors.append(root.error(path, f"{id!r} is not a component's name", "write type or type/name"))
            continue
        if registry.resolve(kind, type) is None:
            out.errors.append(root.error(path, f"unknown {kind[:-1]} type {type!r}", _other_types(kind, type, registry)))
            continue
        try:
            model = registry.load(kind, type).Config
        except ImportError as error:
            out.errors.append(root.error(path, f"the {kind[:-1]} cannot be loaded: {error}", "install what it needs"))
            continue
        options = _options(root, path, model, out)
        if options is not None:
            out.components[kind][id] = options
        if kind == "exporters" and issubclass(model, HttpClientBlock):
            _check_urls(root, path, out)


def _other_types(kind: str, type: str, registry: Registry) -> str:
    for other in SECTIONS:
        if other != kind and registry.resolve(other, type) is not None:
            return f"it is one of the {other}: move it there"
    return suggest(type, (*registry.TYPES.get(kind, ()), *registry.ALIASES.get(kind, {})), limit=30)


def _options(root: Node, path: Path, model: type[ComponentConfig], out: Validated) -> Any:
    """Validated options of one block, None after adding errors."""
    node = root.get(*path) or Node(None)
    if node.value is not None and not node.is_map:
        out.errors.append(root.error(path, "must be a map of options", "write 'option: value' lines below it"))
        return None
    try:
        value, error, noticed = _read(node, model)
    except (TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as unforeseen:
        _log.debug("%s", path, exc_info=True)
        kind = type(unforeseen).__name__
        out.errors.append(root.error(path, f"its options cannot be understood ({kind})", "compare them with the reference"))
        return None
    for text in noticed:
        place, sentence = place_of(text, node)
        message, _, hint = sentence.partition("; ")
        out.warnings.append(root.error((*path, *place), message, hint))
    if error is not None:
        out.errors += complaints(error, model, root, path)
    return value


def _read(node: Node, model: type[BaseModel]) -> tuple[Any, ValidationError | None, list[str]]:
    """Validates; a value a text was wanted for, but that reads as something else, is tried again as it was written.

    That is for references (a password of digits) and for Prometheus' own options, which take scalars by their text.
    A reference to something empty is tried again as null, which is the default.
    """
    for attempt in (0, 1):
        with _noticing() as noticed:
            try:
                return model.model_validate(node.plain() or {}), None, noticed
            except ValidationError as error:
                again = _as_texts(node, error, model) if attempt == 0 else None
                if again is None:
                    return None, error, noticed
                node = again
    return None, None, []


@contextlib.contextmanager
def _noticing() -> Iterator[list[str]]:
    """Collects what options classes warn of, by `warnings` or by our log, so that it gets its file and line."""
    texts: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() not in texts:
                texts.append(record.getMessage())

    logger, handler = logging.getLogger("kofagent"), Collect(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    handlers, logger.handlers = logger.handlers, [handler]
    try:
        with python_warnings.catch_warnings(record=True) as caught:
            python_warnings.simplefilter("always")
            yield texts
    finally:
        logger.propagate, logger.handlers = propagated, handlers
        texts += [str(w.message) for w in caught if not issubclass(w.category, DeprecationWarning) and str(w.message) not in texts]


def _as_texts(node: Node, error: ValidationError, model: type[BaseModel]) -> Node | None:
    copy: Node | None = None
    for each in error.errors(include_url=False):
        path, _, _ = locate(each["loc"], model, node, missing=each["type"] == "missing")
        found = node.get(*path)
        if found is None or not (found.hidden or "scrape_configs" in path or path[:1] == ("config",)):
            continue
        wants_text = each["type"] in ("string_type", "literal_error", "bytes_type")
        if found.text is not None if wants_text else found.hidden and found.value == "":
            copy = copy or node.copy()
            target = copy.get(*path)
            assert target is not None
            target.value = found.text if wants_text else None
    return copy


def _check_urls(root: Node, path: Path, out: Validated) -> None:
    """An HTTP exporter's endpoint needs a scheme; replaces whatever the options class said about it."""
    for key in _URL_KEYS:
        at = (*path, key)
        node = root.get(*at)
        if node is None or not isinstance(node.value, str) or not node.value or re.match(r"https?://[^/]", node.value):
            continue
        out.errors = [e for e in out.errors if e.path != at]
        shown = "" if node.hidden else f" {without_login(node.value)!r}"
        scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", node.value)
        if scheme is None:
            out.errors.append(root.error(at, f"the URL{shown} has no scheme", "put http:// or https:// in front"))
        else:
            out.errors.append(root.error(at, f"the URL{shown} is not an HTTP one", "write http://host or https://host"))


def _service(root: Node, out: Validated) -> None:
    service = root.get("service")
    if service is None or service.value is None:
        out.errors.append(root.error(("service",), "is required and missing", "add service.pipelines with a pipeline to run"))
        return
    before = len(out.errors)
    pipelines = service.get("pipelines")
    if pipelines is not None and pipelines.is_map:
        for name in pipelines.names():
            signal, slash, rest = name.partition("/")
            if signal not in SIGNALS or (slash and not rest.strip()):
                hint = suggest(signal, SIGNALS) if signal not in SIGNALS else "write signal or signal/name"
                out.errors.append(root.error(("service", "pipelines", name), f"{name!r} is not a pipeline's name", hint))
    value = _options(root, ("service",), ServiceConfig, out)
    if value is not None:
        out.service = value
    elif len(out.errors) > before and pipelines is None:
        return
    _references(root, out)


def _called(root: Node, path: Path) -> str:
    """A component's name as a message may show it: what came from the environment stays there."""
    node = root.get(*path)
    return "named here" if node is None or node.hidden else repr(node.value)


def _names(root: Node, path: Path) -> list[tuple[Path, str]]:
    """The texts of a list in the configuration, with their paths."""
    node = root.get(*path)
    if node is None or not node.is_list:
        return []
    return [((*path, i), item.value) for i, item in enumerate(node.value) if isinstance(item.value, str)]


def _references(root: Node, out: Validated) -> None:
    """Everything that names a component must name one that is there, and every component should be named."""
    defined = {kind: set((root.get(kind) or Node({})).names()) for kind in SECTIONS}
    for kind in ("receivers", "exporters"):
        for id in sorted(defined[kind] & defined["connectors"]):
            out.errors.append(root.error(("connectors", id), f"{id!r} is also one of the {kind}", "give one of them another name"))
    used: set[tuple[str, str]] = set()
    pipelines = root.get("service", "pipelines")
    names = pipelines.names() if pipelines is not None else []
    if not names:
        out.errors.append(root.error(("service", "pipelines"), "there is no pipeline", "add one, such as 'logs:'"))
    for name in names:
        path = ("service", "pipelines", name)
        for kind in ("receivers", "processors", "exporters"):
            used |= _pipeline_end(root, (*path, kind), defined, out)
    started = set()
    for at, id in _names(root, ("service", "extensions")):
        used.add(("extensions", id))
        started.add(id)
        if id not in defined["extensions"]:
            hint = _define("extensions", id, defined["extensions"])
            out.errors.append(root.error(at, f"the extension {_called(root, at)} is not defined", hint))
    for kind in SECTIONS:
        for id in sorted(defined[kind]):
            if (kind, id) not in used:
                where = "service.extensions" if kind == "extensions" else "a pipeline"
                out.warnings.append(root.error((kind, id), f"is not used by {where}", "name it there or remove it"))
                continue
            for at, extension in extension_names(root, (kind, id)):
                if extension not in defined["extensions"]:
                    hint = _define("extensions", extension, defined["extensions"])
                    out.errors.append(root.error(at, f"the extension {_called(root, at)} is not defined", hint))
                elif extension not in started:
                    hint = "add it to service.extensions"
                    out.errors.append(root.error(at, f"the extension {_called(root, at)} is not started", hint))


def _pipeline_end(root: Node, path: Path, defined: dict[str, set[str]], out: Validated) -> set[tuple[str, str]]:
    """Checks one list of a pipeline; returns the components it names as (section, id)."""
    kind, used = str(path[-1]), set()
    named = _names(root, path)
    if not named and kind != "processors":
        node = root.get(*path)
        if node is None or not node.value:
            out.errors.append(root.error(path, f"the pipeline has no {kind}", f"name at least one of the {kind}"))
    seen: set[str] = set()
    for at, id in named:
        if id in seen:
            problem = root.error(at, f"{_called(root, at)} is named twice in this pipeline", "name it once")
            (out.errors if kind == "processors" else out.warnings).append(problem)
        seen.add(id)
        if id in defined[kind]:
            used.add((kind, id))
        elif kind != "processors" and id in defined["connectors"]:
            used.add(("connectors", id))
        else:
            choices = defined[kind] | (defined["connectors"] if kind != "processors" else set())
            out.errors.append(root.error(at, f"the {kind[:-1]} {_called(root, at)} is not defined", _define(kind, id, choices)))
    return used


def _define(kind: str, id: str, choices: set[str]) -> str:
    hint = suggest(id, choices)
    return hint if hint.startswith("did") else f"define it under {kind}" + (f" ({hint})" if hint else "")


def extension_names(root: Node, path: Path) -> Iterator[tuple[Path, str]]:
    """Every extension the options of one component name: authenticators and storages."""
    node = root.get(*path)
    if node is None:
        return
    for below, each in node.walk():
        if not isinstance(each.value, str) or not each.value or not below:
            continue
        if below[-2:] == ("auth", "authenticator") or below in (("storage",), ("sending_queue", "storage"), ("additional_auth",)):
            yield (*path, *below), each.value
