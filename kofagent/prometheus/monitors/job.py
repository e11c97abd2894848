"""What all kinds of monitors share: parts of a scrape configuration built from parts of an object's spec.

No I/O. Secrets and ConfigMaps come from a `Resolve`; what is returned is the plain data a `ScrapeConfig` is validated from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from kofagent.prometheus.discovery.kubernetes.discovery import Select
from kofagent.prometheus.discovery.kubernetes.labels import META, sanitize

Spec = Mapping[str, Any]
Data = dict[str, Any]
Rule = dict[str, Any]


class Unusable(Exception):
    """A monitor, or one endpoint of it, that cannot become a job. The message says why and holds no secret."""


class Resolve(Protocol):
    """Reads one key of a Secret or ConfigMap. `Unusable` says what is missing."""

    def __call__(self, kind: str, namespace: str, name: str, key: str) -> str: ...


class Job(NamedTuple):
    """One scrape job: the data of a `ScrapeConfig`, what its discovery may leave out before labels are created, and whether its
    addresses are those that a prober probes."""

    data: Data
    select: Select | None
    probes: bool = False


class Settings:
    """Settings of the receiver's `monitors` block for all monitors. `scrape_classes` are as in a Prometheus object."""

    def __init__(self, *, role: str = "endpointslice", scrape_classes: tuple[Spec, ...] = (), deny_files: bool = False) -> None:
        self.role = role
        self.deny_files = deny_files
        self._classes = {str(entry.get("name") or ""): entry for entry in scrape_classes}
        self._default = next((entry for entry in scrape_classes if entry.get("default")), {})

    def scrape_class(self, spec: Spec) -> Spec:
        """The scrape class a spec names, else the default one, else nothing."""
        name = spec.get("scrapeClass")
        if not name:
            return self._default
        if name not in self._classes:
            raise Unusable(f"scrapeClass {name!r} is not among monitors.scrape_classes")
        return self._classes[name]


def secret_key(resolve: Resolve, namespace: str, reference: Any, what: str) -> str:
    """The value a `SecretKeySelector` names."""
    if not isinstance(reference, Mapping) or not reference.get("name") or not reference.get("key"):
        raise Unusable(f"{what} needs the name and the key of a Secret")
    return resolve("Secret", namespace, str(reference["name"]), str(reference["key"]))


def secret_or_config_map(resolve: Resolve, namespace: str, reference: Spec, what: str) -> str:
    """The value a `SecretOrConfigMap` names."""
    if reference.get("secret"):
        return secret_key(resolve, namespace, reference["secret"], what)
    place = reference.get("configMap") or {}
    if not place.get("name") or not place.get("key"):
        raise Unusable(f"{what} needs the name and the key of a Secret or ConfigMap")
    return resolve("ConfigMap", namespace, str(place["name"]), str(place["key"]))


def copy(spec: Spec, out: Data, **names: str) -> None:
    """Copies fields that are set, under another name."""
    for field, name in names.items():
        if spec.get(field) is not None:
            out[name] = spec[field]


_SCRAPE = {
    "interval": "scrape_interval",
    "scrapeInterval": "scrape_interval",
    "scrapeTimeout": "scrape_timeout",
    "path": "metrics_path",
    "metricsPath": "metrics_path",
    "honorLabels": "honor_labels",
    "honorTimestamps": "honor_timestamps",
    "trackTimestampsStaleness": "track_timestamps_staleness",
    "followRedirects": "follow_redirects",
    "enableHttp2": "enable_http2",
    "enableHTTP2": "enable_http2",
    "enableCompression": "enable_compression",
}
"""Fields by which any kind of monitor says how to scrape, and the options they become; an empty string is not set."""
LIMITS = {
    "sampleLimit": "sample_limit",
    "targetLimit": "target_limit",
    "labelLimit": "label_limit",
    "labelNameLengthLimit": "label_name_length_limit",
    "labelValueLengthLimit": "label_value_length_limit",
    "keepDroppedTargets": "keep_dropped_targets",
}
_HISTOGRAMS = {
    "scrapeNativeHistograms": "scrape_native_histograms",
    "nativeHistogramBucketLimit": "native_histogram_bucket_limit",
    "scrapeClassicHistograms": "always_scrape_classic_histograms",
    "convertClassicHistogramsToNHCB": "convert_classic_histograms_to_nhcb",
}


def scrape(spec: Spec, endpoint: Spec, server: Spec, chosen: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    """What all kinds of monitors can say about a scrape, each in its place.

    `spec` has the limits, `endpoint` how to scrape, credentials, TLS and rules for metrics, `server` scheme and proxy.
    """
    return {
        **{option: endpoint[field] for field, option in _SCRAPE.items() if endpoint.get(field) not in (None, "")},
        **scheme(server),
        **proxy(server, namespace, resolve),
        **tls(endpoint.get("tlsConfig"), chosen, namespace, resolve, settings),
        **authentication(endpoint, chosen, namespace, resolve, settings),
        **limits(spec, chosen),
        **metric_rules(chosen, endpoint.get("metricRelabelings")),
    }


def limits(spec: Spec, chosen: Spec) -> Data:
    """Limits, histogram options and protocols."""
    out: Data = {}
    copy(spec, out, **LIMITS, **_HISTOGRAMS, bodySizeLimit="body_size_limit", fallbackScrapeProtocol="fallback_scrape_protocol")
    if spec.get("scrapeProtocols"):
        out["scrape_protocols"] = list(spec["scrapeProtocols"])
    if "fallback_scrape_protocol" not in out:
        copy(chosen, out, fallbackScrapeProtocol="fallback_scrape_protocol")
    factor = spec.get("nativeHistogramMinBucketFactor")
    if factor is not None:
        out["native_histogram_min_bucket_factor"] = _quantity(str(factor))
    return out


def _quantity(text: str) -> float:
    try:
        return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        raise Unusable(f"nativeHistogramMinBucketFactor {text!r} is not a number") from None


def proxy(spec: Spec, namespace: str, resolve: Resolve) -> Data:
    """Proxy options."""
    out: Data = {}
    copy(spec, out, proxyUrl="proxy_url", noProxy="no_proxy", proxyFromEnvironment="proxy_from_environment")
    if spec.get("proxyConnectHeader"):
        out["proxy_connect_header"] = {
            name: [secret_key(resolve, namespace, entry, "proxyConnectHeader") for entry in entries]
            for name, entries in spec["proxyConnectHeader"].items()
        }
    return out


def tls(spec: Spec | None, chosen: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    """`tls_config` of a `tlsConfig`, completed by the scrape class."""
    default = chosen.get("tlsConfig") or {}
    if not spec:
        spec, files = default, default
    else:
        own = {name: spec[name] for name in ("caFile", "certFile", "keyFile") if spec.get(name)}
        files = {**default, **own}
        if settings.deny_files and own:
            raise Unusable("tlsConfig names files of the agent, which monitors.deny_files forbids; use Secrets")
    out: Data = {}
    copy(spec, out, insecureSkipVerify="insecure_skip_verify", minVersion="min_version", maxVersion="max_version")
    if spec.get("serverName"):
        out["server_name"] = spec["serverName"]
    for field, name in (("ca", "ca"), ("cert", "cert")):
        if (spec.get(field) or {}).get("secret") or (spec.get(field) or {}).get("configMap"):
            out[name] = secret_or_config_map(resolve, namespace, spec[field], f"tlsConfig.{field}")
        elif files.get(field + "File"):
            out[name + "_file"] = files[field + "File"]
    if spec.get("keySecret"):
        out["key"] = secret_key(resolve, namespace, spec["keySecret"], "tlsConfig.keySecret")
    elif files.get("keyFile"):
        out["key_file"] = files["keyFile"]
    return {"tls_config": out} if out else {}


def authentication(spec: Spec, chosen: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    """basicAuth, authorization, oauth2, bearerTokenSecret and bearerTokenFile."""
    out: Data = {}
    basic = spec.get("basicAuth")
    if basic:
        out["basic_auth"] = {
            "username": secret_key(resolve, namespace, basic.get("username"), "basicAuth.username"),
            "password": secret_key(resolve, namespace, basic.get("password"), "basicAuth.password"),
        }
    if spec.get("bearerTokenFile"):
        if settings.deny_files:
            raise Unusable("bearerTokenFile is a file of the agent, which monitors.deny_files forbids; use authorization")
        out["bearer_token_file"] = spec["bearerTokenFile"]
    token = spec.get("bearerTokenSecret")
    if token and token.get("name"):
        out["bearer_token"] = secret_key(resolve, namespace, token, "bearerTokenSecret")
    own, default = spec.get("authorization") or {}, chosen.get("authorization") or {}
    if own.get("credentialsFile") and settings.deny_files:
        # not in the official type, but a looser CRD lets it pass
        raise Unusable("authorization.credentialsFile is a file of the agent, which monitors.deny_files forbids; use credentials")
    if own or default:
        out["authorization"] = {"type": str(own.get("type") or default.get("type") or "Bearer").strip()}
        credentials, file = (own.get(name, default.get(name)) for name in ("credentials", "credentialsFile"))
        if credentials:
            out["authorization"]["credentials"] = secret_key(resolve, namespace, credentials, "authorization.credentials")
        elif file:
            out["authorization"]["credentials_file"] = file
    if spec.get("oauth2"):
        out["oauth2"] = oauth2(spec["oauth2"], namespace, resolve, settings)
    return out


def oauth2(spec: Spec, namespace: str, resolve: Resolve, settings: Settings) -> Data:
    """`oauth2`."""
    out: Data = {
        "client_id": secret_or_config_map(resolve, namespace, spec.get("clientId") or {}, "oauth2.clientId"),
        "client_secret": secret_key(resolve, namespace, spec.get("clientSecret"), "oauth2.clientSecret"),
        "token_url": spec.get("tokenUrl") or "",
    }
    if spec.get("scopes"):
        out["scopes"] = list(spec["scopes"])
    if spec.get("endpointParams"):
        out["endpoint_params"] = dict(spec["endpointParams"])
    return {**out, **proxy(spec, namespace, resolve), **tls(spec.get("tlsConfig"), {}, namespace, resolve, settings)}


def first_rules() -> list[Rule]:
    """Keeps the name of the job for the user's rules."""
    return [{"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"}]


def user_rules(entries: Any) -> list[Rule]:
    """`relabelings` and `metricRelabelings` as they are written."""
    out = []
    for entry in entries or ():
        rule: Rule = {}
        copy(entry, rule, separator="separator", replacement="replacement")
        for field, name in (
            ("sourceLabels", "source_labels"),
            ("targetLabel", "target_label"),
            ("regex", "regex"),
            ("modulus", "modulus"),
        ):
            if entry.get(field):
                rule[name] = entry[field]
        if entry.get("action"):
            rule["action"] = str(entry["action"]).lower()
        out.append(rule)
    return out


def selector_rules(selector: Spec, kind: str) -> list[Rule]:
    """A label selector as rules over `__meta_kubernetes_<kind>_label_*`."""
    out: list[Rule] = []
    for key, value in sorted((selector.get("matchLabels") or {}).items()):
        out.append({"action": "keep", "source_labels": _label(kind, key), "regex": f"({value});true"})
    for entry in selector.get("matchExpressions") or ():
        labels, values = _label(kind, entry.get("key") or ""), "|".join(entry.get("values") or ())
        match entry.get("operator"):
            case "In":
                out.append({"action": "keep", "source_labels": labels, "regex": f"({values});true"})
            case "NotIn":
                out.append({"action": "drop", "source_labels": labels, "regex": f"({values});true"})
            case "Exists":
                out.append({"action": "keep", "source_labels": labels[1:], "regex": "true"})
            case "DoesNotExist":
                out.append({"action": "drop", "source_labels": labels[1:], "regex": "true"})
            case other:
                raise Unusable(f"selector: {other!r} is not an operator (In, NotIn, Exists, DoesNotExist)")
    return out


def _label(kind: str, key: str) -> list[str]:
    return [f"{META}{kind}_label_{sanitize(key)}", f"{META}{kind}_labelpresent_{sanitize(key)}"]


def matches(selector: Spec, labels: Mapping[str, str]) -> bool:
    """Whether labels match a `LabelSelector`; an empty one matches everything."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for entry in selector.get("matchExpressions") or ():
        key, operator, values = entry.get("key") or "", entry.get("operator"), entry.get("values") or ()
        if operator == "In" and labels.get(key) not in values:
            return False
        if operator == "NotIn" and key in labels and labels[key] in values:
            return False
        if operator in ("Exists", "DoesNotExist") and (key in labels) != (operator == "Exists"):
            return False
    return True


def selector_text(selector: Spec) -> str:
    """A `LabelSelector` as the text of a label selector, ordered by label."""
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for entry in selector.get("matchExpressions") or ():
        key, values = entry.get("key") or "", ",".join(sorted(entry.get("values") or ()))
        parts.append(
            (
                key,
                {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}.get(
                    entry.get("operator") or "", key
                ),
            )
        )
    return ",".join(text for _, text in sorted(parts, key=lambda part: part[0]))


def copy_label(source: str, target: str) -> Rule:
    """A rule that copies a label."""
    return {"source_labels": [META + source], "target_label": target}


def copy_if_set(source: str, target: str) -> Rule:
    """A rule that copies a label unless it is empty."""
    return {**copy_label(source, target), "regex": "(.+)", "replacement": "${1}"}


def fixed(target: str, value: str) -> Rule:
    """A rule that writes a string."""
    return {"target_label": target, "replacement": value}


RUNNING: Rule = {"action": "drop", "source_labels": [META + "pod_phase"], "regex": "(Failed|Succeeded)"}
"""Leaves out pods that have ended."""


def kubernetes_sd(role: str, namespaces: list[str], attach: Spec | None = None, selectors: list[Data] | None = None) -> Data:
    """`kubernetes_sd_configs` with one entry; no namespaces means all."""
    entry: Data = {"role": role}
    if namespaces:
        entry["namespaces"] = {"names": namespaces}
    if attach is not None:
        entry["attach_metadata"] = {"node": bool(attach.get("node"))}
    if selectors:
        entry["selectors"] = selectors
    return {"kubernetes_sd_configs": [entry]}


def chosen_namespaces(selector: Spec | None, own: str) -> list[str]:
    """A `namespaceSelector`: names, or nothing for all."""
    if selector and selector.get("any"):
        return []
    return list((selector or {}).get("matchNames") or ()) or [own]


def in_namespaces(names: list[str]) -> Callable[[str], bool]:
    """Whether a namespace is among them; no names means all."""
    wanted = frozenset(names)
    return wanted.__contains__ if wanted else lambda _: True


def scheme(spec: Spec) -> Data:
    """`scheme`, which monitors may write in capitals."""
    return {"scheme": str(spec["scheme"]).lower()} if spec.get("scheme") else {}


def metric_rules(chosen: Spec, entries: Any) -> Data:
    """`metric_relabel_configs`: the scrape class's, then the monitor's."""
    rules = [*user_rules(chosen.get("metricRelabelings")), *user_rules(entries)]
    return {"metric_relabel_configs": rules} if rules else {}


def int_or_text(value: Any) -> str:
    """A port as a string; empty if it is not set."""
    return "" if value is None or value == 0 else str(value)
