"""PodMonitor: one job for every endpoint of the pods it selects."""

from __future__ import annotations

from kofagent.prometheus.discovery.kubernetes.discovery import Select
from kofagent.prometheus.discovery.kubernetes.labels import META, Lookup, Object, identity, metadata, sanitize
from kofagent.prometheus.monitors.job import (
    RUNNING,
    Job,
    Resolve,
    Rule,
    Settings,
    Spec,
    chosen_namespaces,
    copy_if_set,
    copy_label,
    first_rules,
    fixed,
    in_namespaces,
    int_or_text,
    kubernetes_sd,
    matches,
    selector_rules,
    user_rules,
)
from kofagent.prometheus.monitors.servicemonitor import endpoint_data, role_selectors


def pod_monitor_jobs(monitor: Object, index: int, resolve: Resolve, settings: Settings) -> Job:
    """The job of endpoint `index`."""
    namespace, name = identity(monitor)
    spec = monitor.get("spec") or {}
    endpoint, selector = spec["podMetricsEndpoints"][index], spec.get("selector") or {}
    chosen = settings.scrape_class(spec)
    namespaces = chosen_namespaces(spec.get("namespaceSelector"), namespace)
    attach = spec.get("attachMetadata") or chosen.get("attachMetadata")
    by_api = role_selectors(spec, ("pod",))
    data = {
        "job_name": f"podMonitor/{namespace}/{name}/{index}",
        **endpoint_data(endpoint, spec, chosen, namespace, resolve, settings),
        **kubernetes_sd("pod", namespaces, attach, by_api),
        "relabel_configs": _rules(endpoint, spec, chosen, f"{namespace}/{name}", not by_api),
    }
    return Job(data, _select(namespaces, {} if by_api else selector))


def _rules(endpoint: Spec, spec: Spec, chosen: Spec, job: str, select: bool) -> list[Rule]:
    rules = first_rules()
    if endpoint.get("filterRunning", True) is not False:
        rules.append(RUNNING)
    if select:
        rules += selector_rules(spec.get("selector") or {}, "pod")
    port = endpoint.get("port") or ""
    target_port = None if port else endpoint.get("targetPort")
    wanted = port or endpoint.get("portNumber") or target_port
    if wanted:
        kind = "number" if isinstance(wanted, int) else "name"
        rules.append({"action": "keep", "source_labels": [f"{META}pod_container_port_{kind}"], "regex": str(wanted)})
    rules += [copy_label("namespace", "namespace"), copy_label("pod_container_name", "container"), copy_label("pod_name", "pod")]
    rules += [copy_if_set(f"pod_label_{sanitize(label)}", sanitize(label)) for label in spec.get("podTargetLabels") or ()]
    rules.append(fixed("job", job))
    if spec.get("jobLabel"):
        rules.append(copy_if_set(f"pod_label_{sanitize(spec['jobLabel'])}", "job"))
    named = port or int_or_text(target_port)
    if named:
        rules.append(fixed("endpoint", named))
    return [*rules, *user_rules(chosen.get("relabelings")), *user_rules(endpoint.get("relabelings"))]


def _select(namespaces: list[str], selector: Spec) -> Select:
    here = in_namespaces(namespaces)

    def select(obj: Object, lookup: Lookup) -> bool:
        return here(identity(obj)[0]) and matches(selector, metadata(obj).get("labels") or {})

    return select
