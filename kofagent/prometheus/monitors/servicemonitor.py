"""ServiceMonitor: one job for every endpoint of the services it selects. Also what it shares with PodMonitor."""

from __future__ import annotations

from kofagent.prometheus.discovery.kubernetes.discovery import Select
from kofagent.prometheus.discovery.kubernetes.labels import META, Lookup, Object, identity, metadata, sanitize
from kofagent.prometheus.discovery.kubernetes.roles import SERVICE_NAME
from kofagent.prometheus.monitors.job import (
    RUNNING,
    Data,
    Job,
    Resolve,
    Rule,
    Settings,
    Spec,
    chosen_namespaces,
    copy,
    copy_if_set,
    copy_label,
    first_rules,
    fixed,
    in_namespaces,
    int_or_text,
    kubernetes_sd,
    matches,
    scrape,
    selector_rules,
    selector_text,
    user_rules,
)


def endpoint_data(endpoint: Spec, spec: Spec, chosen: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    """Everything of an endpoint but its name, discovery and rules."""
    out = scrape(spec, endpoint, endpoint, chosen, namespace, resolve, settings)
    copy(endpoint, out, params="params")
    return out


def role_selectors(spec: Spec, roles: tuple[str, ...]) -> list[Data]:
    """Selectors for the API server with `selectorMechanism: RoleSelector`."""
    if spec.get("selectorMechanism") != "RoleSelector":
        return []
    return [{"role": role, "label": selector_text(spec.get("selector") or {})} for role in roles]


def service_monitor_jobs(monitor: Object, index: int, resolve: Resolve, settings: Settings) -> Job:
    """The job of endpoint `index`."""
    namespace, name = identity(monitor)
    spec = monitor.get("spec") or {}
    endpoint, selector = spec["endpoints"][index], spec.get("selector") or {}
    chosen = settings.scrape_class(spec)
    role = str(spec.get("serviceDiscoveryRole") or settings.role).lower()
    namespaces = chosen_namespaces(spec.get("namespaceSelector"), namespace)
    attach = spec.get("attachMetadata") or chosen.get("attachMetadata")
    by_api = role_selectors(spec, (role, "service"))
    data = {
        "job_name": f"serviceMonitor/{namespace}/{name}/{index}",
        **endpoint_data(endpoint, spec, chosen, namespace, resolve, settings),
        **kubernetes_sd(role, namespaces, attach, by_api),
        "relabel_configs": _rules(endpoint, spec, chosen, "endpoint" if role == "endpoints" else role, not by_api),
    }
    return Job(data, _select(role, namespaces, {} if by_api else selector))


def _rules(endpoint: Spec, spec: Spec, chosen: Spec, prefix: str, select: bool) -> list[Rule]:
    rules = first_rules()
    if select:
        rules += selector_rules(spec.get("selector") or {}, "service")
    port = endpoint.get("port") or ""
    target_port = None if port else endpoint.get("targetPort")
    if port:
        rules.append({"action": "keep", "source_labels": [f"{META}{prefix}_port_name"], "regex": port})
    elif target_port:
        kind = "number" if isinstance(target_port, int) else "name"
        rules.append({"action": "keep", "source_labels": [f"{META}pod_container_port_{kind}"], "regex": str(target_port)})
    target = [f"{META}{prefix}_address_target_kind", f"{META}{prefix}_address_target_name"]
    rules += [
        {"source_labels": target, "separator": ";", "regex": f"{kind};(.*)", "replacement": "${1}", "target_label": label}
        for kind, label in (("Node", "node"), ("Pod", "pod"))
    ]
    rules += [
        copy_label("namespace", "namespace"),
        copy_label("service_name", "service"),
        copy_label("pod_name", "pod"),
        copy_label("pod_container_name", "container"),
    ]
    if endpoint.get("filterRunning", True) is not False:
        rules.append(RUNNING)
    rules += [copy_if_set(f"service_label_{sanitize(label)}", sanitize(label)) for label in spec.get("targetLabels") or ()]
    rules += [copy_if_set(f"pod_label_{sanitize(label)}", sanitize(label)) for label in spec.get("podTargetLabels") or ()]
    rules.append({**copy_label("service_name", "job"), "replacement": "${1}"})
    if spec.get("jobLabel"):
        rules.append(copy_if_set(f"service_label_{sanitize(spec['jobLabel'])}", "job"))
    named = port or int_or_text(target_port)
    if named:
        rules.append(fixed("endpoint", named))
    return [*rules, *user_rules(chosen.get("relabelings")), *user_rules(endpoint.get("relabelings"))]


def _select(role: str, namespaces: list[str], selector: Spec) -> Select:
    here = in_namespaces(namespaces)

    def select(obj: Object, lookup: Lookup) -> bool:
        namespace, name = identity(obj)
        if not here(namespace):
            return False
        if not selector:
            return True
        if role != "endpoints":
            name = (metadata(obj).get("labels") or {}).get(SERVICE_NAME) or ""
        service = lookup.service(namespace, name)
        return matches(selector, metadata(service or {}).get("labels") or {})

    return select
