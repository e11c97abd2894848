"""ScrapeConfig: a scrape job written as an object, with the discovery mechanisms the receiver has."""

from __future__ import annotations

from collections.abc import Callable

from kofagent.prometheus.discovery.kubernetes.labels import Object, identity
from kofagent.prometheus.monitors.job import (
    Data,
    Job,
    Resolve,
    Settings,
    Spec,
    Unusable,
    authentication,
    copy,
    first_rules,
    proxy,
    scrape,
    tls,
    user_rules,
)

_ESCAPING = {"allowutf8": "allow-utf-8"}


def scrape_config_job(config: Object, resolve: Resolve, settings: Settings) -> Job:
    """The job of a scrape config."""
    namespace, name = identity(config)
    spec = config.get("spec") or {}
    chosen = settings.scrape_class(spec)
    unknown = sorted(key for key in spec if key.endswith("SDConfigs") and spec[key] and key not in _DISCOVERY)
    if unknown:
        raise Unusable(f"{', '.join(unknown)}: not supported; {', '.join(_DISCOVERY)} are")
    data: Data = {
        "job_name": f"scrapeConfig/{namespace}/{name}",
        **scrape(spec, spec, spec, chosen, namespace, resolve, settings),
    }
    copy(spec, data, params="params")
    if spec.get("nameValidationScheme"):
        data["metric_name_validation_scheme"] = str(spec["nameValidationScheme"]).lower()
    if spec.get("nameEscapingScheme"):
        text = str(spec["nameEscapingScheme"]).lower()
        data["metric_name_escaping_scheme"] = _ESCAPING.get(text, text)
    for key, (option, entry) in _DISCOVERY.items():
        if spec.get(key):
            data[option] = [entry(one, namespace, resolve, settings) for one in spec[key]]
    rules = [*first_rules(), *user_rules(chosen.get("relabelings"))]
    if spec.get("jobName"):
        rules.append({"target_label": "job", "action": "replace", "replacement": spec["jobName"]})
    data["relabel_configs"] = [*rules, *user_rules(spec.get("relabelings"))]
    return Job(data, None)


def _static(entry: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    return {"targets": list(entry.get("targets") or ()), "labels": dict(entry.get("labels") or {})}


def _file(entry: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    if settings.deny_files:
        raise Unusable("fileSDConfigs names files of the agent, which monitors.deny_files forbids")
    out: Data = {"files": list(entry.get("files") or ())}
    copy(entry, out, refreshInterval="refresh_interval")
    return out


def _client(entry: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    out: Data = {
        **proxy(entry, namespace, resolve),
        **authentication(entry, {}, namespace, resolve, settings),
        **tls(entry.get("tlsConfig"), {}, namespace, resolve, settings),
    }
    copy(entry, out, followRedirects="follow_redirects", enableHTTP2="enable_http2")
    return out


def _http(entry: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    out = {**_client(entry, namespace, resolve, settings), "url": entry.get("url") or ""}
    copy(entry, out, refreshInterval="refresh_interval")
    return out


def _kubernetes(entry: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    role = str(entry.get("role") or "").lower()
    out = {**_client(entry, namespace, resolve, settings), "role": role}
    copy(entry, out, apiServer="api_server")
    where = entry.get("namespaces")
    if where:
        out["namespaces"] = {"names": list(where.get("names") or ()), "own_namespace": bool(where.get("ownNamespace"))}
    if entry.get("selectors"):
        out["selectors"] = [
            {"role": str(one.get("role") or "").lower(), "label": one.get("label") or "", "field": one.get("field") or ""}
            for one in entry["selectors"]
        ]
    if entry.get("attachMetadata") and role in ("pod", "endpoints", "endpointslice"):
        out["attach_metadata"] = {"node": bool(entry["attachMetadata"].get("node"))}
    return out


_DISCOVERY: dict[str, tuple[str, Callable[[Spec, str, Resolve, Settings], Data]]] = {
    "staticConfigs": ("static_configs", _static),
    "fileSDConfigs": ("file_sd_configs", _file),
    "httpSDConfigs": ("http_sd_configs", _http),
    "kubernetesSDConfigs": ("kubernetes_sd_configs", _kubernetes),
}
