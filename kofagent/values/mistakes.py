"""What is wrong with values of KOF 1.2 and later: types that the chart refuses, and keys that nothing reads.

The chart accepts unknown keys without a word, so they are warnings here: the release of somebody runs with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kofagent.config.errors import Problem, suggest
from kofagent.config.tree import Node
from kofagent.values.model import CONFIG_SECTIONS
from kofagent.values.places import Found
from kofagent.values.versions import STACK, read

_TOP = ("global", "kof", "kcm", "opencost", "metrics-server", STACK, "collectors", "tags", "kofagent")
_STACK_KEYS = (
    "cleanupJob",
    "clusterName",
    "clusterRole",
    "collectors",
    "coreDns",
    "crds",
    "defaultCRConfig",
    "extraEnvs",
    "extraObjects",
    "fullnameOverride",
    "global",
    "instrumentation",
    "kube-state-metrics",
    "kubeApiServer",
    "kubeControllerManager",
    "kubeDns",
    "kubeEtcd",
    "kubeProxy",
    "kubeScheduler",
    "kubeStateMetrics",
    "kubelet",
    "kubernetesServiceMonitors",
    "nameOverride",
    "namespaceOverride",
    "nodeExporter",
    "opAMPBridge",
    "opentelemetry-operator",
    "presets",
    "prometheus-node-exporter",
)
_MORE_OF_A_COLLECTOR = ("replicas", "ingress", "envFrom", "deploymentUpdateStrategy", "exclude", "nameOverride")
_UNREAD = ("basic_auth", "metrics", "logs", "traces")
_TYPES = {bool: "true or false", str: "a string", dict: "a map", list: "a list", int: "a number"}


def errors_of(found: Sequence[Found], key: str) -> list[Problem]:
    """Values of the wrong type, of what a collector is made of."""
    types = read("sub_chart", "chart").value["defaultCRConfig"].plain()
    problems: list[Problem] = []
    for each in found:
        stack = each.values.get(STACK)
        if stack is None or stack.value is None:
            continue
        if not stack.is_map:
            problems.append(_problem(each, (STACK,), "must be a map", "write 'key: value' lines below it"))
            continue
        for way in (("defaultCRConfig",), ("collectors", key)):
            holder = stack.get(*way)
            if holder is None or holder.value is None:
                continue
            if not holder.is_map:
                problems.append(_problem(each, (STACK, *way), "must be a map", "write 'key: value' lines below it"))
                continue
            problems += _types(each, (STACK, *way), holder, types)
            problems += _configuration(each, (STACK, *way), holder)
    return problems


def _types(found: Found, way: tuple[str, ...], holder: Node, types: dict[str, object]) -> list[Problem]:
    problems = []
    for name, node in holder.value.items():
        wanted = types.get(name)
        if wanted is None or node.value is None:
            continue
        kind = type(wanted)
        is_of = isinstance(node.value, kind) and (kind is not int or not isinstance(node.value, bool))
        if not is_of:
            problems.append(_problem(found, (*way, name), f"must be {_TYPES[kind]}", "correct it, or leave it out"))
        elif name == "presets":
            for preset, options in node.value.items():
                known = wanted.get(preset) if isinstance(wanted, dict) else None
                if isinstance(known, dict) and options.is_map:
                    problems += _types(found, (*way, name, preset), options, known)
    return problems


def _configuration(found: Found, way: tuple[str, ...], holder: Node) -> list[Problem]:
    """Sections that are not maps."""
    config = holder.get("config")
    if config is None or not config.is_map:
        return []
    return [
        _problem(found, (*way, "config", name), "must be a map", "write 'key: value' lines below it")
        for name, node in config.value.items()
        if name in CONFIG_SECTIONS and node.value is not None and not node.is_map
    ]


def _problem(found: Found, path: tuple[str, ...], message: str, hint: str = "", *, warning: bool = False) -> Problem:
    return found.tree.problem((*found.path, *path), message, hint, warning=warning)


def warnings_of(found: Sequence[Found], key: str) -> list[Problem]:
    """Keys that nothing reads."""
    problems: list[Problem] = []
    for each in found:
        problems += _of_top(each)
        stack = each.values.get(STACK) or Node({})
        for name in stack.names():
            if name not in _STACK_KEYS:
                hint = suggest(name, _STACK_KEYS, limit=0) or "remove it"
                problems.append(_problem(each, (STACK, name), "is a key of nothing and does nothing", hint, warning=True))
        for way in (("defaultCRConfig",), ("collectors", key)):
            problems += _of_collector(each, (STACK, *way), stack.get(*way))
    return problems


def ignored_part(found: Sequence[Found]) -> list[Problem]:
    """A part of an umbrella chart's file that the charts of 1.10 and later do not read any more."""
    what = "is ignored by the umbrella chart of KOF 1.10 and later, and taken here all the same"
    hint = "move it to kof-child.values.fromManagement.collectors"
    return [each.tree.problem(each.path[:1], what, hint, warning=True) for each in found if each.path[:1] == ("kof-collectors",)]


def _of_top(found: Found) -> list[Problem]:
    problems = []
    for name in found.values.names():
        if name not in _TOP and not name.startswith(("x-", ".")):
            hint = f"move it below {STACK}" if name in _STACK_KEYS else suggest(name, _TOP, limit=0) or "remove it"
            problems.append(_problem(found, (name,), "is a key of nothing and does nothing", hint, warning=True))
    for name in (found.values.get("collectors") or Node({})).names():
        if name != "enabled":
            what = "does nothing in KOF 1.2 and later"
            hint = f"collectors stand below {STACK}.collectors; kofagent migrate rewrites values of KOF 0.3.0"
            problems.append(_problem(found, ("collectors", name), what, hint, warning=True))
    for name in (found.values.get("kof") or Node({})).names():
        if name in _UNREAD:
            hint = f"exporters and logins are collector configuration below {STACK}.defaultCRConfig.config"
            problems.append(_problem(found, ("kof", name), "does nothing in KOF 1.2 and later", hint, warning=True))
    return problems


def _of_collector(found: Found, way: tuple[str, ...], holder: Node | None) -> list[Problem]:
    known = (*read("sub_chart", "chart").value["defaultCRConfig"].names(), *_MORE_OF_A_COLLECTOR)
    problems = []
    for name in holder.names() if holder is not None else ():
        if name in CONFIG_SECTIONS:
            what = f"does nothing beside config in the chart, and is taken as {way[-1]}.config.{name} here"
            problems.append(_problem(found, (*way, name), what, "move it there", warning=True))
        elif name not in known:
            hint = suggest(name, known, limit=0) or "remove it"
            problems.append(_problem(found, (*way, name), "is a key of nothing and does nothing", hint, warning=True))
    return problems
