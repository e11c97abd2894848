"""The presets of opentelemetry-kube-stack, and the file of scrape jobs that a collector may name.

Each preset lays the collector's configuration over its own block, so what a user wrote wins, and then names its component in the
pipelines `logs`, `metrics` and `traces` where these exist and do not name it already.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from kofagent.config.merge import merge_files
from kofagent.config.tree import Node, Origin, node_of
from kofagent.values.versions import read

ORDER = ("kubernetesAttributes", "logsCollection", "hostMetrics", "kubeletMetrics", "kubernetesEvents", "clusterMetrics")
"""In which they are applied."""
_NAMED = {
    "kubernetesAttributes": ("k8sattributes", "processors", ("logs", "metrics", "traces")),
    "logsCollection": ("filelog", "receivers", ("logs",)),
    "hostMetrics": ("hostmetrics", "receivers", ("metrics",)),
    "kubeletMetrics": ("kubeletstats", "receivers", ("metrics",)),
    "kubernetesEvents": ("k8sobjects", "receivers", ("logs",)),
    "clusterMetrics": ("k8s_cluster", "receivers", ("metrics",)),
}
_SCRAPE_FILE = "daemon_scrape_configs.yaml"
"""The only file of the chart that a collector can name."""


def truthy(node: Node | None) -> bool:
    """Whether a template of Helm takes a value for true: everything but nothing, false, 0, and what is empty."""
    return node is not None and bool(node.value)


def apply_presets(collector: Node, config: Node, exclude: str) -> Node:
    """The configuration of a collector with the presets that it turns on; `exclude` matches the files of its own logs."""
    for preset in ORDER:
        options = collector.get("presets", preset) or Node({})
        if truthy(options.get("enabled")):
            config = merge_files([_block(preset, options, collector, exclude), config])
            _name(config, preset, options)
    return config


def append_scrape_file(config: Node, file: Node) -> Node:
    """The configuration with the jobs of `scrape_configs_file`; any other name than the chart's one is a file without jobs."""
    origin = replace(file.origin, note=f"scrape_configs_file {file.value}")
    found = read("daemon_scrape_configs", "preset") if file.value == _SCRAPE_FILE else Node([], origin)
    present = config.get("receivers", "prometheus", "config", "scrape_configs")
    jobs = present.copy() if present is not None and present.is_list and present.value else Node([], found.origin)
    jobs.value = [*jobs.value, *(job.copy() for job in found.value)]
    wrapped = node_of({"receivers": {"prometheus": {"config": {"scrape_configs": jobs}}}}, origin)
    out = merge_files([config, wrapped])
    _insert(out, "metrics", "receivers", "prometheus", origin, first=True)
    laid = out.get("receivers", "prometheus", "config", "scrape_configs")
    if laid is not None:
        laid.replaced = jobs.replaced
    return out


@functools.cache
def _blocks() -> Node:
    tree = read("presets", "preset")
    for name, block in tree.value.items():
        for _, node in block.walk():
            node.origin = replace(node.origin, note=name.partition("+")[0])
    return tree


def _block(preset: str, options: Node, collector: Node, exclude: str) -> Node:
    """What a preset contributes, by its options."""
    parts = [_blocks().value[preset]]
    mode = collector.get("mode")
    if preset == "kubernetesAttributes" and mode is not None and mode.value == "daemonset":
        parts.append(_blocks().value[f"{preset}+daemonset"])
    if preset == "logsCollection" and truthy(options.get("storeCheckpoints")):
        parts.append(_blocks().value[f"{preset}+storeCheckpoints"])
    block = merge_files(parts)
    if preset == "kubernetesAttributes":
        _extract_all(block, options)
    if preset == "logsCollection":
        _collect_logs(block, options, exclude)
    return block


def _from_option(options: Node, name: str) -> Origin:
    """Of a value that an option of a preset decides: the place of the option."""
    return replace(options.nearest((name,)).origin, layer="preset", note=name)


def _extract_all(block: Node, options: Node) -> None:
    extract = block.value["processors"].value["k8sattributes"].value["extract"]
    everything = {"from": "pod", "key_regex": "(.*)", "tag_name": "$$1"}
    if truthy(options.get("extractAllPodLabels")):
        extract.value["labels"].value.append(node_of(everything, _from_option(options, "extractAllPodLabels")))
    if truthy(options.get("extractAllPodAnnotations")):
        extract.value["annotations"] = node_of([everything], _from_option(options, "extractAllPodAnnotations"))


def _collect_logs(block: Node, options: Node, exclude: str) -> None:
    receiver = block.value["receivers"].value["filelog"]
    if not truthy(options.get("includeCollectorLogs")):
        receiver.value["exclude"] = Node(exclude, _from_option(options, "includeCollectorLogs"))
    size = options.get("maxRecombineLogSize")
    operator = receiver.value["operators"].value[0]
    if size is not None:
        operator.value["max_log_size"] = Node(size.value, _from_option(options, "maxRecombineLogSize"))


def _name(config: Node, preset: str, options: Node) -> None:
    """Names a preset's component in the pipelines."""
    id, kind, pipelines = _NAMED[preset]
    origin = replace(options.nearest(("enabled",)).origin, layer="preset", note=preset)
    for pipeline in pipelines:
        _insert(config, pipeline, kind, id, origin, first=kind == "processors")
    service = config.get("service")
    if preset == "logsCollection" and truthy(options.get("storeCheckpoints")) and service is not None and service.is_map:
        _into(service, "extensions", lambda names: [*names, Node("file_storage", origin)], origin)


def _insert(config: Node, pipeline: str, kind: str, id: str, origin: Origin, *, first: bool) -> None:
    """Names a component in a list of a pipeline, unless there is no such pipeline or it is named there."""
    found = config.get("service", "pipelines", pipeline)
    if found is None or not found.is_map or not found.value:
        return
    present = found.get(kind)
    if present is not None and present.is_list and id in present.plain():
        return
    new = Node(id, origin)
    _into(found, kind, lambda names: [new, *names] if first else [*names, new], origin)


def _into(holder: Node, key: str, change: Callable[[list[Node]], list[Node]], origin: Origin) -> None:
    """Changes the list `key` of a map, which need not be there, and drops what is named twice in it."""
    present = holder.get(key)
    out = present.copy() if present is not None and present.is_list else Node([], origin)
    seen: dict[str, Node] = {}
    for item in change(out.value):
        seen.setdefault(repr(item.plain()), item)
    out.value = list(seen.values())
    holder.value[key] = out
