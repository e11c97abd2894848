"""Targets: from what discovery found to what is scraped, and the labels their samples get. No I/O."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import quote, urlencode

from kofagent.config.base import parse_duration
from kofagent.prometheus.config import ScrapeConfig, format_duration
from kofagent.prometheus.discovery.group import Group
from kofagent.prometheus.relabel import Labels, Rules, compile_rules, valid_label_name
from kofagent.prometheus.text import SeriesError
from kofagent.telemetry.series import sorted_labels

Pairs = tuple[tuple[str, str], ...]
_KUBERNETES = {
    "__meta_kubernetes_pod_name": "k8s.pod.name",
    "__meta_kubernetes_pod_uid": "k8s.pod.uid",
    "__meta_kubernetes_pod_container_name": "k8s.container.name",
    "__meta_kubernetes_namespace": "k8s.namespace.name",
    "__meta_kubernetes_pod_node_name": "k8s.node.name",
    "__meta_kubernetes_node_name": "k8s.node.name",
    "__meta_kubernetes_endpoint_node_name": "k8s.node.name",
}
_CONTROLLERS = {
    "ReplicaSet": "k8s.replicaset.name",
    "DaemonSet": "k8s.daemonset.name",
    "StatefulSet": "k8s.statefulset.name",
    "Job": "k8s.job.name",
    "CronJob": "k8s.cronjob.name",
}


class Target:
    """One page to scrape. `discovered` are the labels before relabelling, `labels` those of its samples.

    `health` is `unknown`, `up` or `down`; `last_error` a sentence or empty; times are Unix seconds, 0 before the first scrape.
    """

    __slots__ = (
        "discovered",
        "hash",
        "health",
        "interval",
        "job",
        "labels",
        "last_duration",
        "last_error",
        "last_scrape",
        "private",
        "timeout",
        "url",
    )

    def __init__(self, job: ScrapeConfig, labels: Labels, discovered: Labels) -> None:
        self.job = job
        self.discovered = discovered
        self.private = labels
        self.labels = {k: v for k, v in labels.items() if not k.startswith("__")}
        self.interval = parse_duration(labels["__scrape_interval__"])
        self.timeout = parse_duration(labels["__scrape_timeout__"])
        self.url = _url(job, labels)
        text = repr((sorted(labels.items()), self.url)).encode("utf-8", "surrogatepass")
        self.hash = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        self.health = "unknown"
        self.last_error = ""
        self.last_scrape = 0.0
        self.last_duration = 0.0

    def offset(self, now: float | None = None) -> float:
        """Seconds until the next scrape: the same moment of every interval for the same target, spread over targets."""
        now = time.time() if now is None else now
        position = self.hash / 2**64 * self.interval
        return (position - now) % self.interval

    def resource(self) -> dict[str, str]:
        """Attributes that describe the target to consumers that speak OTLP, named as upstream's receiver names them."""
        return resource_attributes(self.labels.get("job", ""), self.labels.get("instance", ""), self.discovered)


def resource_attributes(job: str, instance: str, discovered: Mapping[str, str]) -> dict[str, str]:
    """`service.*`, `server.*`, `url.scheme` and what Kubernetes discovery knows; empty values left out."""
    host, port = _host_port(instance)
    out = {
        "service.name": job,
        "service.instance.id": instance,
        "server.port": port,
        "url.scheme": discovered.get("__scheme__", ""),
    }
    if _discernible(host):
        out["server.address"] = host
    for meta, attribute in _KUBERNETES.items():
        if discovered.get(meta):
            out[attribute] = discovered[meta]
    attribute = _CONTROLLERS.get(discovered.get("__meta_kubernetes_pod_controller_kind", ""), "")
    if attribute and discovered.get("__meta_kubernetes_pod_controller_name"):
        out[attribute] = discovered["__meta_kubernetes_pod_controller_name"]
    return {k: v for k, v in out.items() if v}


def _host_port(instance: str) -> tuple[str, str]:
    if instance.startswith("["):
        host, bracket, port = instance[1:].partition("]")
        return (host, port[1:]) if bracket and port[:1] == ":" else (instance, "")
    host, colon, port = instance.partition(":")
    return (host, port) if colon and ":" not in port else (instance, "")


def _discernible(host: str) -> bool:
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return not address.is_loopback and not address.is_unspecified


def _url(job: ScrapeConfig, labels: Labels) -> str:
    params: dict[str, list[str]] = {key: list(values) for key, values in job.params.items()}
    for name, value in labels.items():
        if name.startswith("__param_"):
            key = name[len("__param_") :]
            params[key] = [value, *params.get(key, [""])[1:]]
    path = labels.get("__metrics_path__", "")
    if path and not path.startswith("/"):
        path = "/" + path
    query = urlencode([(key, value) for key in sorted(params) for value in params[key]])
    path = quote(path, safe="/$&+,:;=@~")
    return f"{labels.get('__scheme__', '')}://{labels['__address__']}{path}{'?' + query if query else ''}"


class Dropped:
    """A target that relabelling dropped, kept to be shown. Its labels are assembled on request."""

    __slots__ = ("_group", "_job", "_target")

    def __init__(self, job: ScrapeConfig, target: Mapping[str, str], group: Mapping[str, str]) -> None:
        self._job = job
        self._target = target
        self._group = group

    @property
    def discovered(self) -> Labels:
        """The labels before relabelling."""
        return discovered_labels(self._job, self._target, self._group)


def discovered_labels(job: ScrapeConfig, target: Mapping[str, str], group: Mapping[str, str]) -> Labels:
    """The labels relabelling starts from: of the target, of its group, and the job's settings where they lack one."""
    labels = {**group, **target}
    defaults = {
        "job": job.job_name,
        "__scrape_interval__": format_duration(job.scrape_interval),
        "__scrape_timeout__": format_duration(job.scrape_timeout),
        "__metrics_path__": job.metrics_path,
        "__scheme__": job.scheme,
        **{f"__param_{key}": values[0] for key, values in job.params.items() if values},
    }
    for name, value in defaults.items():
        if not labels.get(name):
            labels[name] = value
    return {name: value for name, value in labels.items() if value}


def build_targets(job: ScrapeConfig, rules: Rules, groups: Iterable[Group]) -> tuple[list[Target], list[Dropped], list[str]]:
    """Targets of a job, those left out, and what is wrong with others. Equal targets are one, as the last was found."""
    targets: dict[int, Target] = {}
    dropped: list[Dropped] = []
    problems: list[str] = []
    for group in groups:
        for found in group.targets:
            discovered = discovered_labels(job, found, group.labels)
            labels = dict(discovered)
            try:
                if not rules(labels):
                    dropped.append(Dropped(job, found, group.labels))
                    continue
                target = Target(job, _complete(labels), discovered)
            except ValueError as error:
                problems.append(f"{group.source}: {found.get('__address__', '')}: {error}")
                continue
            targets[target.hash] = target
    return list(targets.values()), dropped, problems


def _complete(labels: Labels) -> Labels:
    address = labels.get("__address__", "")
    if not address:
        raise ValueError("no address")
    if "/" in address:
        raise ValueError(f"{address!r} is not a host and port")
    for name, what in (("__scrape_interval__", "scrape interval"), ("__scrape_timeout__", "scrape timeout")):
        if parse_duration(labels.get(name, "")) <= 0:
            raise ValueError(f"{what} cannot be 0")
    if parse_duration(labels["__scrape_timeout__"]) > parse_duration(labels["__scrape_interval__"]):
        raise ValueError("scrape timeout cannot be greater than scrape interval")
    if labels.get("__scheme__") not in ("http", "https"):
        raise ValueError(f"unknown scheme {labels.get('__scheme__', '')!r}")
    for name, value in labels.items():
        if not name.isascii() or not value.isascii():
            _check_text(name + value)
    out = {name: value for name, value in labels.items() if not name.startswith("__meta_") and value}
    out.setdefault("instance", address)
    return out


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a label is not UTF-8") from None


def target_rules(job: ScrapeConfig) -> Rules:
    """The job's `relabel_configs` as one function."""
    return compile_rules(job.relabel_configs, f"{job.job_name} targets", job.metric_name_validation_scheme)


def sample_rules(job: ScrapeConfig) -> Rules:
    """The job's `metric_relabel_configs` as one function."""
    return compile_rules(job.metric_relabel_configs, f"{job.job_name} samples", job.metric_name_validation_scheme)


def finisher(
    job: ScrapeConfig, rules: Rules, target: Mapping[str, str], external: Mapping[str, str]
) -> Callable[[Pairs], Pairs | None]:
    """A function from the labels on a page to the final ones: target labels, `metric_relabel_configs`, limits, external labels.

    None where relabelling drops the series; SeriesError fails the scrape, with the reason.
    """
    scheme = job.metric_name_validation_scheme
    honor = job.honor_labels
    changing = bool(job.metric_relabel_configs)
    limited = bool(job.label_limit or job.label_name_length_limit or job.label_value_length_limit)

    def finish(pairs: Pairs) -> Pairs | None:
        labels = dict(pairs)
        if honor:
            for name, value in target.items():
                if name not in labels:
                    labels[name] = value
        else:
            _override(labels, target)
        if changing:
            if not rules(labels):
                return None
            labels = {name: value for name, value in labels.items() if value}
            if not labels:
                return None
        if changing or scheme == "legacy":
            _check(labels, scheme)
        if limited:
            _check_limits(job, labels)
        for name, value in external.items():
            labels.setdefault(name, value)
        # The order of code points is the order of their UTF-8 bytes.
        return tuple(sorted(labels.items()))

    return finish


def _override(labels: Labels, target: Mapping[str, str]) -> None:
    if labels.keys().isdisjoint(target):
        labels.update(target)
        return
    conflicts = [(name, labels[name]) for name in target if labels.get(name)]
    labels.update(target)
    for name, value in sorted(conflicts, key=lambda pair: len(pair[0])):
        exported = "exported_" + name
        while labels.get(exported):
            exported = "exported_" + exported
        labels[exported] = value


def _check(labels: Labels, scheme: str) -> None:
    name = labels.get("__name__")
    if not name:
        raise SeriesError("a series has no name after metric_relabel_configs")
    if scheme == "legacy" and not (
        valid_label_name(name.replace(":", "_"), scheme) and all(valid_label_name(key, scheme) for key in labels)
    ):
        raise SeriesError(f"invalid metric name or label names: {name[:50]}")


def _check_limits(job: ScrapeConfig, labels: Labels) -> None:
    name = labels["__name__"][:50]
    if job.label_limit and len(labels) > job.label_limit:
        raise SeriesError(f"label_limit exceeded (metric: {name}, number of labels: {len(labels)}, limit: {job.label_limit})")
    for key, value in labels.items():
        length = len(key.encode())
        if job.label_name_length_limit and length > job.label_name_length_limit:
            raise SeriesError(
                f"label_name_length_limit exceeded (metric: {name}, label name: {key[:50]}, length: {length}, "
                f"limit: {job.label_name_length_limit})"
            )
        length = len(value.encode())
        if job.label_value_length_limit and length > job.label_value_length_limit:
            raise SeriesError(
                f"label_value_length_limit exceeded (metric: {name}, label name: {key[:50]}, length: {length}, "
                f"limit: {job.label_value_length_limit})"
            )


def report_labels(name: str, target: Mapping[str, str], external: Mapping[str, str]) -> Pairs:
    """The labels of `up` and the like: no metric_relabel_configs, the target's labels always win."""
    labels = {"__name__": name, **target}
    for key, value in external.items():
        labels.setdefault(key, value)
    return sorted_labels(labels)


__all__: Sequence[str] = [
    "Dropped",
    "Target",
    "build_targets",
    "discovered_labels",
    "finisher",
    "report_labels",
    "resource_attributes",
    "sample_rules",
    "target_rules",
]
