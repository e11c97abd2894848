"""What the author of values of KOF 1.2 and later meant, where the Go collector would not start or a key would do nothing.

Each function changes a configuration in one respect and gives the one warning that says so. What is rendered for comparison with
upstream is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kofagent.config.errors import Path, Problem
from kofagent.config.model import SECTIONS
from kofagent.config.tree import Node, Origin, node_of
from kofagent.values.presets import truthy

CLUSTER_NAME = "resource/k8sclustername"
_MONITORS_EVERY = "30s"
"""Interval of monitors that do not say one, as the target allocator has it."""


@dataclass(frozen=True)
class Around:
    """What a collector's configuration does not say itself."""

    key: str
    name: str
    """Of the object."""
    collector: Node
    """`collectors.NAME` over `defaultCRConfig`."""
    default: Node
    """`defaultCRConfig`."""
    cluster: Node
    """The name of the cluster."""
    namespace: Node
    """The namespace of the cluster in the management cluster."""


def as_meant(rendered: Node, around: Around) -> tuple[Node, list[Problem]]:
    """The configuration that runs, and a warning for each thing in which it differs from what was rendered."""
    config = rendered.copy()
    warnings: list[Problem] = []
    for change in _CHANGES:
        found = change(config, around)
        if found is not None:
            warnings.append(replace(found, warning=True))
    return config, warnings


def _pipelines(config: Node) -> Iterator[tuple[str, Node]]:
    found = config.get("service", "pipelines")
    for name in found.names() if found is not None else ():
        if found is not None and found.value[name].is_map:
            yield name, found.value[name]


def _named(config: Node) -> set[tuple[str, str]]:
    """The components that pipelines and `service.extensions` name; a connector is named as a receiver or an exporter."""
    out = {("extensions", str(item.value)) for item in _list(config, ("service", "extensions"))}
    for _, pipeline in _pipelines(config):
        for kind in ("receivers", "processors", "exporters"):
            for item in _list(pipeline, (kind,)):
                out |= {(kind, str(item.value)), ("connectors", str(item.value))}
    return out


def _list(node: Node, path: Path) -> list[Node]:
    found = node.get(*path)
    return found.value if found is not None and found.is_list else []


def _name_the_cluster(config: Node, around: Around) -> Problem | None:
    """The processor that puts the cluster's name on logs and metrics: the defaults name it, only recipes define it."""
    processors = config.get("processors")
    if ("processors", CLUSTER_NAME) not in _named(config) or processors is None or not processors.is_map:
        return None
    if processors.child(CLUSTER_NAME) is not None:
        return None
    entries = []
    for key, value, note in (
        ("k8s.cluster.name", around.cluster, "clusterName"),
        ("k8s.cluster.namespace", around.namespace, "global.clusterNamespace"),
    ):
        origin = replace(value.origin, layer="generated", note=note)
        entries.append(node_of({"action": "insert", "key": key, "value": value.value}, origin))
    origin = replace(around.cluster.origin, layer="generated", note="clusterName")
    processors.value[CLUSTER_NAME] = Node({"attributes": Node(entries, origin)}, origin)
    return Problem(
        ("processors", CLUSTER_NAME),
        f"is named by pipelines and not defined; it is made from the cluster's name, {around.cluster.value!r}",
        "set opentelemetry-kube-stack.clusterName to the right name, or define the processor",
        around.cluster.origin.place,
    )


def _redirect(config: Node, around: Around) -> Problem | None:
    """Pipelines of the defaults that export to what the user has deleted with a null: to what all collectors of the user export to.

    The documented recipe for CloudWatch is older than the pipelines that part audit logs from others.
    """
    exporters = config.get("exporters") or Node({})
    gone = {id for id in exporters.names() if exporters.value[id].value is None and _deleted_something(exporters.value[id])}
    if not gone:
        return None
    changed: list[str] = []
    place = exporters.value[min(gone)].origin.place
    for name, pipeline in _pipelines(config):
        ends = _list(pipeline, ("exporters",))
        signal = name.partition("/")[0]
        instead = around.default.get("config", "service", "pipelines", signal, "exporters")
        wanted = [item for item in (instead.value if instead is not None and instead.is_list else []) if item.value not in gone]
        if not wanted or instead is None or instead.origin.layer != "user" or pipeline.value["exporters"].origin.layer == "user":
            continue
        left = [item for item in ends if item.value not in gone and not _abandoned(str(item.value), exporters, gone)]
        if len(left) < len(ends):
            present = {item.value for item in left}
            kept = [*left, *(item.copy() for item in wanted if item.value not in present)]
            pipeline.value["exporters"] = Node(kept, replace(instead.origin, note="defaultCRConfig"))
            changed.append(name)
    if not changed:
        return None
    are = "is" if len(gone) == 1 else "are"
    message = (
        f"{', '.join(sorted(gone))} {are} null, but {_several('pipeline', changed)} of the defaults would send there or beside it"
    )
    message += "; what comes there goes where defaultCRConfig sends it"
    hint = f"set collectors.{around.key}.config.service.pipelines.{changed[0]}.exporters to say so"
    return Problem(("exporters",), message, hint, place)


def _abandoned(id: str, exporters: Node, gone: set[str]) -> bool:
    """Whether an exporter is the untouched default beside one that the user deleted: `otlphttp/logs-audit` of `otlphttp/logs`."""
    node = exporters.child(id)
    ours = node is not None and all(each.origin.layer != "user" for _, each in node.walk())
    return ours and any(id.startswith(f"{other}-") for other in gone)


def _deleted_something(node: Node) -> bool:
    return node.replaced is not None


def _several(word: str, names: Sequence[str]) -> str:
    return f"{word}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _leave_out_nulls(config: Node, around: Around) -> Problem | None:
    """Components that are null as a whole and that nothing names: who wrote the null wanted them gone."""
    named = _named(config)
    out: list[tuple[Path, Origin]] = []
    for kind in SECTIONS:
        section = config.get(kind) or Node({})
        for id in section.names():
            node = section.value[id]
            if node.value is None and (kind, id) not in named:
                out.append(((kind, id), node.origin))
                del section.value[id]
    if not out:
        return None
    names = ", ".join(str(path[1]) for path, _ in out[1:])
    rest = f", and so are {names}" if names else ""
    return Problem(out[0][0], f"is null and nothing names it, so it is left out{rest}", "", out[0][1].place)


def _start_extensions(config: Node, around: Around) -> Problem | None:
    """Extensions that a component in use needs and that fell out of `service.extensions` when a list replaced another."""
    defined = (config.get("extensions") or Node({})).names()
    started = [item.value for item in _list(config, ("service", "extensions"))]
    named = _named(config)
    needed: dict[str, Node] = {}
    for kind, id in sorted(named):
        node = config.get(kind, id)
        for way in (("storage",), ("sending_queue", "storage"), ("auth", "authenticator")):
            used = node.get(*way) if node is not None else None
            if used is not None and isinstance(used.value, str):
                needed.setdefault(used.value, used)
        for used in _list(node, ("watch_observers",)) if node is not None else ():
            needed.setdefault(str(used.value), used)
    missing = [id for id in needed if id in defined and id not in started]
    service = config.get("service")
    if not missing or service is None or not service.is_map:
        return None
    names = service.get("extensions")
    if names is None or not names.is_list:
        names = service.value["extensions"] = Node([], service.origin)
    for id in missing:
        names.value.append(Node(id, replace(needed[id].origin, layer="generated", note="its use")))
    message = f"lacks {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} defined and used, and started all the same"
    return Problem(("service", "extensions"), message, "add it to the list: a list replaces the one below it", names.origin.place)


def _exclude_own_logs(config: Node, around: Around) -> Problem | None:
    """The preset logsCollection excludes a container by the name of the chart, which no container has."""
    exclude = config.get("receivers", "filelog", "exclude")
    if exclude is None or not isinstance(exclude.value, str):
        return None
    own = exclude.origin.layer == "preset"
    glob = exclude.value.replace("/opentelemetry-kube-stack/*.log", "/*/*.log") if own else exclude.value
    receiver = config.value["receivers"].value["filelog"]
    receiver.value["exclude"] = Node([Node(glob, exclude.origin)], exclude.origin)
    if not own:
        return None
    message = f"of the preset logsCollection names a container that does not exist; all containers of {around.name} are excluded"
    return Problem(("receivers", "filelog", "exclude"), message, "", exclude.origin.place)


def _drop_equal_jobs(config: Node, around: Around) -> Problem | None:
    """Jobs of the chart's file that are there already under the same name."""
    jobs = config.get("receivers", "prometheus", "config", "scrape_configs")
    if jobs is None or not jobs.is_list:
        return None
    seen: set[Any] = set()
    kept, gone = [], []
    for job in jobs.value:
        name = job.get("job_name")
        if name is not None and name.value in seen and job.origin.layer == "preset":
            gone.append(str(name.value))
            continue
        seen.add(name.value if name is not None else None)
        kept.append(job)
    if not gone:
        return None
    jobs.value = kept
    file = around.collector.nearest(("scrape_configs_file",)).origin.place
    message = f"also has {_several('the job', gone)}, which the configuration has already; those of the file are left out"
    return Problem(("scrape_configs_file",), message, "remove it, or the jobs", file)


def _read_monitors(config: Node, around: Around) -> Problem | None:
    """What the operator and its target allocator do for a collector: monitors, each target on the agent of its node."""
    allocator = around.collector.get("targetAllocator") or Node({})
    receiver = config.get("receivers", "prometheus")
    if not truthy(allocator.get("enabled")) or receiver is None or not receiver.is_map:
        return None
    origin = replace(allocator.origin, layer="generated", note="targetAllocator")
    objects = allocator.get("prometheusCR") or Node({})
    if truthy(objects.get("enabled")) and receiver.child("monitors") is None:
        monitors: dict[str, Any] = {"enabled": True, "scrape_interval": _MONITORS_EVERY}
        for theirs, ours in (
            ("serviceMonitorSelector", "service_monitor_selector"),
            ("podMonitorSelector", "pod_monitor_selector"),
            ("probeSelector", "probe_selector"),
            ("scrapeConfigSelector", "scrape_config_selector"),
        ):
            selector = objects.get(theirs)
            if selector is not None and truthy(selector):
                monitors[ours] = selector.copy()
        receiver.value["monitors"] = node_of(monitors, origin)
    mode = around.collector.get("mode")
    if receiver.child("allocation") is None and mode is not None and mode.value == "daemonset":
        receiver.value["allocation"] = node_of({"strategy": "per-node"}, origin)
    return None


def _listen_everywhere(config: Node, around: Around) -> Problem | None:
    """Protocols of `otlp` without an address, to which the operator gives one that others can reach."""
    for kind, id in _named(config):
        protocols = config.get(kind, id, "protocols") if kind == "receivers" and id.partition("/")[0] == "otlp" else None
        for name, port in (("grpc", 4317), ("http", 4318)):
            node = protocols.child(name) if protocols is not None else None
            if protocols is None or node is None or (node.value is not None and (not node.is_map or "endpoint" in node.value)):
                continue
            address = Node(f"0.0.0.0:{port}", replace(node.origin, layer="generated", note="the operator's default"))
            protocols.value[name] = Node({**(node.value or {}), "endpoint": address}, node.origin)
    return None


def _make_directories(config: Node, around: Around) -> Problem | None:
    """Directories of `file_storage`, which the kubelet makes in a pod since the volumes say so."""
    extensions = config.get("extensions")
    for id in extensions.names() if extensions is not None else ():
        options = config.get("extensions", id)
        if id.partition("/")[0] != "file_storage" or options is None or not options.is_map or "create_directory" in options.value:
            continue
        directory = options.get("directory")
        if directory is not None:
            origin = replace(directory.origin, layer="generated", note="the volume's DirectoryOrCreate")
            options.value["create_directory"] = Node(True, origin)
    return None


_CHANGES: tuple[Callable[[Node, Around], Problem | None], ...] = (
    _name_the_cluster,
    _redirect,
    _leave_out_nulls,
    _exclude_own_logs,
    _drop_equal_jobs,
    _start_extensions,
    _read_monitors,
    _listen_everywhere,
    _make_directories,
)
