"""Names in a configuration: what refers to a component or a pipeline, and whether what it refers to is there and fits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

from kofagent.config.base import EXTENSION, PIPELINE, ROLES, ComponentConfig, Marker
from kofagent.config.errors import Path, Problem, suggest
from kofagent.config.model import SECTIONS, SIGNALS
from kofagent.config.tree import Node
from kofagent.config.typed_tree import marked


class Registry(Protocol):
    """What is asked about component types.

    `kofagent.component.registry` stands above this room, which therefore cannot import it; tests have made-up components.
    """

    TYPES: dict[str, tuple[str, ...]]
    ALIASES: dict[str, dict[str, str]]

    def type_of(self, id: str) -> str:
        """The type in a component's name."""
        ...

    def resolve(self, kind: str, type: str) -> str | None:
        """The registered spelling of a type, None if it is not registered."""
        ...

    def load(self, kind: str, type: str) -> Any:
        """The class of a component: its options class in `Config`, its `signals`, the `routes` of a connector."""
        ...


Components = Mapping[str, Mapping[str, ComponentConfig]]
"""Options by section and id."""


def references(root: Node, registry: Registry, components: Components, absent: Collection[str]) -> list[Problem]:
    """Everything that is named and not there, there and not named, or named where it cannot be used.

    `components` are those whose options are valid. References to `absent` components are allowed.
    """
    return _References(root, registry, components, absent).problems


class _References:
    """One configuration while its names are looked up."""

    def __init__(self, root: Node, registry: Registry, components: Components, absent: Collection[str]) -> None:
        self.problems: list[Problem] = []
        self._root = root
        self._registry = registry
        self._components = components
        self._absent = absent
        self._defined = {kind: set((root.get(kind) or Node({})).names()) for kind in SECTIONS}
        self._used: set[tuple[str, str]] = set()
        self._ends: dict[str, tuple[list[str], list[str]]] = {id: ([], []) for id in sorted(self._defined["connectors"])}
        """By connector: the pipelines that export to it, and those that receive from it."""
        for kind in ("receivers", "exporters"):
            for id in sorted(self._defined[kind] & self._defined["connectors"]):
                self._problem(("connectors", id), f"{id!r} is also one of the {kind}", "rename one of them")
        pipelines = root.get("service", "pipelines")
        names = pipelines.names() if pipelines is not None else []
        if not names:
            self._problem(("service", "pipelines"), "there is no pipeline", "add one, such as 'logs:'")
        for name in names:
            for kind in ("receivers", "processors", "exporters"):
                self._list_of(name, kind)
        self._connectors()
        self._circular_pipelines(names)
        self._extensions()
        self._circular_extensions()

    def _problem(self, path: Path, message: str, hint: str = "", *, warning: bool = False) -> None:
        self.problems.append(self._root.problem(path, message, hint, warning=warning))

    def _class(self, kind: str, id: str) -> Any:
        """The class of a component; None if it is not known, which was reported."""
        type = self._registry.type_of(id)
        if id not in self._defined[kind] or self._registry.resolve(kind, type) is None:
            return None
        try:
            return self._registry.load(kind, type)
        except ImportError:
            return None

    def _list_of(self, pipeline: str, kind: str) -> None:
        """Checks one list of a pipeline."""
        path: Path = ("service", "pipelines", pipeline, kind)
        named = _names(self._root, path)
        if not named and kind != "processors":
            node = self._root.get(*path)
            if node is None or not node.value:
                self._problem(path, f"the pipeline has no {kind}", f"name at least one of the {kind}")
        seen: set[str] = set()
        for at, id in named:
            called = _called(self._root, at)
            if id in seen:
                self._problem(at, f"{called} is named twice in this pipeline", "name it once", warning=kind != "processors")
                continue
            seen.add(id)
            if id in self._defined[kind]:
                self._used.add((kind, id))
                self._signal(at, kind, id, _signal_of(pipeline))
            elif kind != "processors" and id in self._ends:
                self._used.add(("connectors", id))
                self._ends[id][kind == "receivers"].append(pipeline)
            elif id not in self._absent:
                choices = self._defined[kind] | (self._defined["connectors"] if kind != "processors" else set())
                self._problem(at, f"the {kind[:-1]} {called} is not defined", _define(kind, id, choices))

    def _signal(self, at: Path, kind: str, id: str, signal: str) -> None:
        cls = self._class(kind, id)
        can = sorted(each.value for each in cls.signals) if cls is not None else []
        if signal in SIGNALS and can and signal not in can:
            self._problem(at, f"{_called(self._root, at)} does not support {signal}", f"it supports {' and '.join(can)}")
        elif signal in SIGNALS and id in self._components[kind]:
            for each in self._components[kind][id].misfits(signal):
                self._problem((kind, id, *each.path), each.message, each.hint)

    def _connectors(self) -> None:
        """Each joins the pipelines on its sides, and the pipelines that its options name receive from it."""
        for id, (before, after) in self._ends.items():
            if ("connectors", id) not in self._used:
                continue
            path = ("connectors", id)
            if not before or not after:
                where = "as an exporter" if not before else "as a receiver"
                self._problem(path, "is used on one side only", f"name it {where} of another pipeline as well")
            else:
                self._joins_all(id, before, after)
            for at, pipeline in self._names_in(path, PIPELINE):
                if pipeline not in after:
                    hint = suggest(pipeline, after, limit=0) or f"name {id!r} among its receivers"
                    self._problem(at, f"the pipeline {_called(self._root, at)} does not receive from {id!r}", hint)

    def _joins_all(self, id: str, before: list[str], after: list[str]) -> None:
        """Every pipeline on one side needs one on the other side whose signal the connector can join with its own."""
        for name in before:
            if not any(self._joins(id, name, other) for other in after):
                to = " or ".join(sorted(b for a, b in self._routes(id) if a == _signal_of(name)))
                self._alone(id, f"no pipeline receives what {name!r} sends to it", f"name it as a receiver of a {to} pipeline", to)
        for name in after:
            if not any(self._joins(id, other, name) for other in before):
                to = " or ".join(sorted(a for a, b in self._routes(id) if b == _signal_of(name)))
                self._alone(id, f"no pipeline sends it what {name!r} receives", f"name it as an exporter of a {to} pipeline", to)

    def _alone(self, id: str, message: str, hint: str, signals: str) -> None:
        self._problem(("connectors", id), message, hint if signals else "it does not support the signal of this pipeline")

    def _joins(self, id: str, pipeline: str, other: str) -> bool:
        return (_signal_of(pipeline), _signal_of(other)) in self._routes(id)

    def _routes(self, id: str) -> set[tuple[str, str]]:
        """The pairs of signals that a connector can join; all if its type is not known."""
        cls = self._class("connectors", id)
        return {(a, b) for a in SIGNALS for b in SIGNALS} if cls is None else {(a.value, b.value) for a, b in cls.routes}

    def _circular_pipelines(self, names: list[str]) -> None:
        """Pipelines that feed themselves through connectors."""
        feeds: dict[str, list[str]] = {name: [] for name in names}
        for id, (before, after) in self._ends.items():
            for name in dict.fromkeys(before):
                feeds[name] += [other for other in after if self._joins(id, name, other)]
        for circle in _circles(feeds):
            message = f"circular pipelines: {' -> '.join(circle)}"
            self._problem(("service", "pipelines", circle[0]), message, "take one connector out")

    def _circular_extensions(self) -> None:
        """Extensions that need themselves, at once or through others: an authenticator that asks itself never answers."""
        defined = self._defined["extensions"]
        named = {id: list(self._names_in(("extensions", id), EXTENSION)) for id in sorted(defined)}
        needs = {id: [other for _, other in found if other in defined] for id, found in named.items()}
        for first, second, *rest in _circles(needs):
            at = next(at for at, other in named[first] if other == second)
            if rest:
                self._problem(at, f"circular extensions: {' -> '.join((first, second, *rest))}", "name another one")
            else:
                self._problem(at, "the extension names itself", "name another one")

    def _extensions(self) -> None:
        """Those that run, those that components name, and what nothing names."""
        defined, started = self._defined["extensions"], set()
        for at, id in _names(self._root, ("service", "extensions")):
            self._used.add(("extensions", id))
            started.add(id)
            if id not in defined:
                self._problem(at, f"the extension {_called(self._root, at)} is not defined", _define("extensions", id, defined))
        for kind in SECTIONS:
            for id in sorted(self._defined[kind]):
                if (kind, id) not in self._used:
                    where = "service.extensions" if kind == "extensions" else "a pipeline"
                    self._problem((kind, id), f"is not used by {where}", "name it there or remove it", warning=True)
                    continue
                for at, extension in self._names_in((kind, id), EXTENSION):
                    called = _called(self._root, at)
                    if extension not in defined:
                        hint = _define("extensions", extension, defined)
                        self._problem(at, f"the extension {called} is not defined", hint)
                    elif extension not in started:
                        self._problem(at, f"the extension {called} is not started", "add it to service.extensions")
                self._roles((kind, id))

    def _roles(self, path: Path) -> None:
        """The extensions that a component names can do what they are named for."""
        for role in ROLES:
            for at, extension in self._names_in(path, role):
                cls = self._class("extensions", extension)
                if cls is not None and not hasattr(cls, role.method):
                    self._problem(at, f"the extension {_called(self._root, at)} cannot {role.task}", "name another one")

    def _names_in(self, path: Path, marker: Marker) -> Iterator[tuple[Path, str]]:
        return _marked_names(self._root, self._registry, path, marker)


def extension_names(root: Node, registry: Registry, path: Path) -> Iterator[tuple[Path, str]]:
    """Every extension that the options of one component name: authenticators and storages."""
    return _marked_names(root, registry, path, EXTENSION)


def _marked_names(root: Node, registry: Registry, path: Path, marker: Marker) -> Iterator[tuple[Path, str]]:
    kind, id = str(path[0]), str(path[1])
    node, type = root.get(*path), registry.type_of(id)
    if node is None or registry.resolve(kind, type) is None:
        return
    try:
        model = registry.load(kind, type).Config
    except ImportError:
        return
    for below, each in marked(node, model, marker):
        if isinstance(each.value, str) and each.value:
            yield (*path, *below), each.value
    for inner in model.inner(node) if node.is_map else ():
        type = registry.type_of(inner.id)
        if registry.resolve(inner.kind, type) is None:
            continue
        try:
            below_it = registry.load(inner.kind, type).Config
        except ImportError:
            continue
        for below, each in marked(inner.node, below_it, marker):
            if isinstance(each.value, str) and each.value and below not in inner.loose:
                yield (*path, *inner.path, *below), each.value


def _circles(follow: Mapping[str, list[str]]) -> list[tuple[str, ...]]:
    """Ways from a name back to itself: its first name is also the last. Every name is walked from once."""
    found: list[tuple[str, ...]] = []
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            found.append((*above[above.index(name) :], name))
        elif name not in done:
            for other in follow[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in follow:
        visit(name, ())
    return found


def _signal_of(pipeline: str) -> str:
    """The signal in a pipeline's name: `logs` of `logs/audit`."""
    return pipeline.split("/", 1)[0]


def _called(root: Node, path: Path) -> str:
    """A component's name as a message may show it: values from the environment are not shown."""
    node = root.get(*path)
    return "named here" if node is None or node.hidden else repr(node.value)


def _names(root: Node, path: Path) -> list[tuple[Path, str]]:
    """The strings of a list in the configuration, with their paths."""
    node = root.get(*path)
    if node is None or not node.is_list:
        return []
    texts = [item.text if item.value is None else item.value for item in node.value]  # an unset variable is a name, too: none
    return [((*path, i), text) for i, text in enumerate(texts) if isinstance(text, str)]


def _define(kind: str, id: str, choices: set[str]) -> str:
    near = suggest(id, choices, limit=0)
    defined = f" (defined: {', '.join(sorted(choices)[:16])})" if choices else ""
    return near or f"define it under {kind}{defined}"
