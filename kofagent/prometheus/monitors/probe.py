"""Probe: addresses or ingresses that a prober such as the blackbox exporter asks for."""

from __future__ import annotations

from kofagent.prometheus.discovery.kubernetes.labels import META, Lookup, Object, identity, metadata
from kofagent.prometheus.monitors.job import (
    Data,
    Job,
    Resolve,
    Rule,
    Settings,
    Spec,
    Unusable,
    chosen_namespaces,
    copy_label,
    first_rules,
    fixed,
    in_namespaces,
    kubernetes_sd,
    matches,
    scrape,
    selector_rules,
    user_rules,
)


def probe_job(probe: Object, resolve: Resolve, settings: Settings) -> Job:
    """The job of a probe."""
    namespace, name = identity(probe)
    spec = probe.get("spec") or {}
    prober, targets = spec.get("prober") or {}, spec.get("targets") or {}
    if not prober.get("url") or "/" in str(prober["url"]):
        raise Unusable("prober.url is host or host:port")
    chosen = settings.scrape_class(spec)
    data: Data = {
        "job_name": f"probe/{namespace}/{name}",
        "honor_timestamps": True,
        "params": _params(spec),
        **scrape(spec, spec, prober, chosen, namespace, resolve, settings),
        "metrics_path": prober.get("path") or "/probe",
    }
    rules = first_rules() + ([fixed("job", spec["jobName"])] if spec.get("jobName") else [])
    here: list[str] | None = None
    if targets.get("staticConfig"):
        static = targets["staticConfig"]
        labels = {"namespace": namespace, **(static.get("labels") or {})}
        data["static_configs"] = [{"targets": list(static.get("static") or ()), "labels": labels}]
        rules += [
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            *_prober(prober),
            *user_rules(chosen.get("relabelings")),
            *user_rules(static.get("relabelingConfigs")),
        ]
    elif targets.get("ingress"):
        ingress = targets["ingress"]
        here = chosen_namespaces(ingress.get("namespaceSelector"), namespace)
        data.update(kubernetes_sd("ingress", here))
        rules += [
            *selector_rules(ingress.get("selector") or {}, "ingress"),
            *_ingress(),
            *_prober(prober),
            *user_rules(chosen.get("relabelings")),
            *user_rules(ingress.get("relabelingConfigs")),
        ]
    else:
        raise Unusable("targets needs staticConfig or ingress")
    data["relabel_configs"] = rules
    if here is None:
        return Job(data, None, probes=True)
    among, selector = in_namespaces(here), targets["ingress"].get("selector") or {}

    def select(obj: Object, lookup: Lookup) -> bool:
        return among(identity(obj)[0]) and matches(selector, metadata(obj).get("labels") or {})

    return Job(data, select, probes=True)


def _params(spec: Spec) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    if spec.get("module"):
        out["module"] = [spec["module"]]
    for entry in spec.get("params") or ():
        out.setdefault(entry.get("name") or "", list(entry.get("values") or ()))
    return out


def _prober(prober: Spec) -> list[Rule]:
    return [{"source_labels": ["__param_target"], "target_label": "instance"}, fixed("__address__", prober["url"])]


def _ingress() -> list[Rule]:
    return [
        {
            "source_labels": [META + "ingress_scheme", "__address__", META + "ingress_path"],
            "separator": ";",
            "regex": "(.+);(.+);(.+)",
            "target_label": "__param_target",
            "replacement": "${1}://${2}${3}",
            "action": "replace",
        },
        copy_label("namespace", "namespace"),
        copy_label("ingress_name", "ingress"),
        {
            "source_labels": ["__address__"],
            "separator": ";",
            "regex": "(.*)",
            "target_label": "__tmp_ingress_address",
            "replacement": "$1",
            "action": "replace",
        },
    ]
