"""Values of KOF 0.1.1 and 0.3.0 as those of KOF 1.2 and later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kofagent.config.errors import show_path
from kofagent.config.model import SECTIONS
from kofagent.config.tree import Node
from kofagent.values.generated import Values
from kofagent.values.kof_1 import render_collector
from kofagent.values.model import STACK_PARTS
from kofagent.values.rendered import Rendered
from kofagent.values.versions import STACK, is_at_least

SUCCESSORS = {"node": "daemon", "k8scluster": "cluster"}
"""Which collector does what a role did."""
_KEPT = ("kcm", "opencost")
_RENAMED = {"otlphttp": "otlphttp/logs"}
_LISTS = ("receivers", "processors", "exporters")


def to_kof_1(user: Node, before: Mapping[str, Rendered], version: str) -> tuple[dict[str, Any], list[str]]:
    """The new values, and notes on what has no equivalent. `before` is what the old values make of each role."""
    migration = _Migration(user, before, version)
    return migration.values(), migration.notes


class _Migration:
    def __init__(self, user: Node, before: Mapping[str, Rendered], version: str) -> None:
        self.user, self.before, self.version = user, before, version
        self.old = Values(next(iter(before.values())).values)
        self.notes: list[str] = []
        self.env: dict[str, Any] = {}
        self.extensions: list[str] = []
        self.bare = {
            key: render_collector([], key, version=version).config.plain() for key in (*SUCCESSORS.values(), "target-allocator")
        }

    def note(self, node: Node | None, path: tuple[str, ...], text: str) -> None:
        place = f"{node.origin.place}: " if node is not None and node.origin.line else ""
        self.notes.append(f"{place}{show_path(path)}: {text}")

    def values(self) -> dict[str, Any]:
        name = self.old.text("global", "clusterName")
        out: dict[str, Any] = {}
        self._top(out)
        config = self._shared(name)
        stack: dict[str, Any] = out.setdefault(STACK, {})
        stack["clusterName"] = name
        collectors = {key: self._collector(role, key) for role, key in SUCCESSORS.items()}
        default: dict[str, Any] = {"config": config}
        if self.env:
            bare = render_collector([], "daemon", version=self.version)
            shared = bare.values.get("defaultCRConfig", "env")
            for entry in shared.plain() if shared is not None else []:
                self.env.setdefault(entry["name"], entry)
            default["env"] = list(self.env.values())
        stack["defaultCRConfig"] = default
        found = {key: value for key, value in collectors.items() if value}
        if found:
            stack["collectors"] = found
        self.notes.append(
            f"{STACK}.collectors: target-allocator, which scrapes what ServiceMonitors and PodMonitors select, and controller-k0s, "
            "which scrapes the control plane, are new"
        )
        return out

    def _top(self, out: dict[str, Any]) -> None:
        """Keys of other parts of the chart."""
        for key, node in self.user.value.items():
            if key in _KEPT or key == "kofagent" or key.startswith(("x-", ".")):
                out[key] = node.plain()
            elif key == "global":
                out[key] = {name: item.plain() for name, item in (node.value or {}).items() if name not in ("clusterLabel", "lint")}
            elif key in STACK_PARTS:
                out.setdefault(STACK, {})[key] = node.plain()
            elif key == "kof":
                left = node.child("instrumentation")
                if left is not None:
                    out["kof"] = {"instrumentation": left.plain()}
            elif key == "collectors":
                switch = node.child("enabled")
                if switch is not None:
                    out["collectors"] = {"enabled": switch.plain()}
            else:
                self.note(node, (key,), "has no equivalent and is left out")

    def _shared(self, name: str) -> dict[str, Any]:
        """`defaultCRConfig.config`: the name of the cluster, the storages and their logins."""
        exporters: dict[str, Any] = {
            "prometheusremotewrite": self._exporter("metrics", "endpoint"),
            "otlphttp/logs": self._exporter("logs", "logs_endpoint"),
        }
        if is_at_least(self.version, "1.10.0"):
            exporters["otlphttp/logs-audit"] = self._exporter("logs", "logs_endpoint")
            if exporters["otlphttp/logs-audit"] is not None and "logs_endpoint" in exporters["otlphttp/logs-audit"]:
                self.notes.append("exporters.otlphttp/logs-audit: audit logs are new; they go where all logs go")
        exporters["otlphttp/traces"] = self._traces()
        metrics = exporters["prometheusremotewrite"]
        if metrics is not None:
            label = self.old.text("global", "clusterLabel") or "clusterName"
            metrics["external_labels"] = {"cluster": name, **({label: name} if label != "cluster" else {})}
            if label != "cluster":
                self.note(
                    self.user.get("global", "clusterLabel"),
                    ("global", "clusterLabel"),
                    f"KOF 1.x selects the label cluster; series have it and {label}, from external_labels of the exporter",
                )
        self.notes.append(
            "exporters.prometheusremotewrite.external_labels: KOF 1.x also has clusterNamespace, the namespace of the cluster in "
            "the management cluster, which older values do not say: add it there, and to resource/k8sclustername as "
            "k8s.cluster.namespace"
        )
        config: dict[str, Any] = {
            "processors": {
                "resource/k8sclustername": {"attributes": [{"action": "insert", "key": "k8s.cluster.name", "value": name}]}
            },
            "exporters": {id: options for id, options in exporters.items() if options != {}},
        }
        self._ends_of_others(config, exporters)
        if self.extensions:
            config["extensions"] = {id: self._login(id) for id in self.extensions}
            shared = self.bare["target-allocator"]["service"].get("extensions", [])
            config.setdefault("service", {})["extensions"] = [*shared, *self.extensions]
        return config

    def _ends_of_others(self, config: dict[str, Any], exporters: dict[str, Any]) -> None:
        """Without a storage the collectors that are new send where the node's agent sent."""
        for signal, id in (("metrics", "prometheusremotewrite"), ("traces", "otlphttp/traces")):
            ends = self.before["node"].config.get("service", "pipelines", signal, "exporters")
            if exporters[id] is not None or ends is None or not ends.is_list:
                continue
            listed = [str(end.value) for end in ends.value]
            for each in listed:
                if each not in self.bare["target-allocator"]["exporters"] and each not in config["exporters"]:
                    self._carry(config, "node", "exporters", each, each)
            config.setdefault("service", {}).setdefault("pipelines", {})[signal] = {"exporters": listed}

    def _exporter(self, signal: str, key: str) -> dict[str, Any] | None:
        """What the user said of a storage; None if there is none."""
        endpoint = self.old.text("kof", signal, "endpoint")
        if not endpoint:
            return None
        out: dict[str, Any] = {}
        if self.user.get("kof", signal, "endpoint") is not None:
            out[key] = endpoint
        options = self.user.get("kof", signal, "tls_options")
        if options is not None and options.value and endpoint.lower().startswith("https:"):
            out["tls"] = options.plain()
        if signal != "traces" and self.old.flag("kof", "basic_auth"):
            id = f"basicauth/{signal}"
            out["auth"] = {"authenticator": id}
            if id not in self.extensions:
                self.extensions.append(id)
        return out

    def _traces(self) -> dict[str, Any] | None:
        out = self._exporter("traces", "endpoint")
        if out and "endpoint" in out and is_at_least(self.version, "1.7.0"):
            out["traces_endpoint"] = f"{out.pop('endpoint').rstrip('/')}/v1/traces"
            self.note(
                self.user.get("kof", "traces", "endpoint"),
                ("kof", "traces", "endpoint"),
                "is written as traces_endpoint; from 1.7 on KOF stores traces in VictoriaTraces, not in Jaeger: name its address",
            )
        return out

    def _login(self, id: str) -> dict[str, Any]:
        """A login from variables of the environment, as the recipes of KOF 1.x have it."""
        signal = id.partition("/")[2]
        secret = self._secret(signal)
        prefix = "KOF_VM" if secret == self._secret("metrics") else f"KOF_{signal.upper()}"
        for part, key in (("USER", secret[1]), ("PASSWORD", secret[2])):
            source = {"secretKeyRef": {"name": secret[0], "key": key}}
            self.env[f"{prefix}_{part}"] = {"name": f"{prefix}_{part}", "valueFrom": source}
        return {"client_auth": {"username": f"${{env:{prefix}_USER}}", "password": f"${{env:{prefix}_PASSWORD}}"}}

    def _secret(self, signal: str) -> tuple[str, str, str]:
        text = self.old.text
        name, user, password = (text("kof", signal, key) for key in ("credentials_secret_name", "username_key", "password_key"))
        return name, user, password

    # one collector

    def _collector(self, role: str, key: str) -> dict[str, Any]:
        """`collectors.KEY`: what the user said of a role."""
        own = self.user.get("collectors", role) or Node({})
        for entry in (own.get("env") or Node([])).plain() or []:
            self.env.setdefault(str(entry.get("name")), entry)
        config: dict[str, Any] = {}
        for kind in SECTIONS:
            for id, node in (own.get(kind).value or {} if own.get(kind) is not None else {}).items():  # type: ignore[union-attr]
                self._component(config, role, key, kind, id, node)
        service = own.get("service")
        if service is not None and service.is_map:
            self._service(config, role, key, service)
        self._logins(config, key)
        return {"config": config} if config else {}

    def _component(self, config: dict[str, Any], role: str, key: str, kind: str, id: str, node: Node) -> None:
        new = _RENAMED.get(id, id) if kind == "exporters" else id
        known = self.bare[key].get(kind) or {}
        if node.value is None and self.before[role].config.get(kind, id) is None:
            if new in known:
                config.setdefault(kind, {})[new] = None
            else:
                self.note(node, ("collectors", role, kind, id), f"deletes nothing in {key}, which has no such component")
        elif new in known:
            config.setdefault(kind, {})[new] = node.plain()
        else:
            self._carry(config, role, kind, id, new)

    def _carry(self, config: dict[str, Any], role: str, kind: str, id: str, new: str) -> None:
        """A component that the newer defaults do not have, as it was."""
        found = self.before[role].config.get(kind, id)
        if found is not None:
            config.setdefault(kind, {})[new] = found.plain()

    def _service(self, config: dict[str, Any], role: str, key: str, service: Node) -> None:
        out: dict[str, Any] = config.setdefault("service", {})
        for name, node in service.value.items():
            if name == "extensions":
                listed = node.plain() if node.is_list else []
                started = self._started(key)
                out["extensions"] = [*started, *(id for id in listed if id not in started)]
            elif name == "pipelines":
                for pipeline in node.names():
                    self._pipeline(config, role, key, pipeline, node.value[pipeline])
            else:
                out[name] = node.plain()
        if not out:
            del config["service"]

    def _pipeline(self, config: dict[str, Any], role: str, key: str, name: str, node: Node) -> None:
        pipelines: dict[str, Any] = config.setdefault("service", {}).setdefault("pipelines", {})
        if not node.is_map:
            self.note(node, ("collectors", role, "service", "pipelines", name), "has no equivalent and is left out")
            return
        for kind, listed in node.value.items():
            ids = listed.plain()
            if kind not in _LISTS or not isinstance(ids, list):
                pipelines.setdefault(name, {})[kind] = ids
                continue
            known = self.bare[key]
            new = []
            for id in map(str, ids):
                as_new = _RENAMED.get(id, id) if kind == "exporters" else id
                if as_new not in (known.get(kind) or {}) and as_new not in (config.get(kind) or {}):
                    self._carry(config, role, kind, id, as_new)
                new.append(as_new)
            for target in self._targets(key, name, kind):
                pipelines.setdefault(target, {})[kind] = list(new)

    def _targets(self, key: str, name: str, kind: str) -> list[str]:
        """Where a list of a pipeline goes: logs of the daemon are parted by a connector from 1.10 on, so they have two ends."""
        if key == "daemon" and name == "logs" and kind == "exporters" and is_at_least(self.version, "1.10.0"):
            return ["logs/default", "logs/audit"]
        return [name]

    def _started(self, key: str) -> list[str]:
        return [*(self.bare[key].get("service") or {}).get("extensions", []), *self.extensions]

    def _logins(self, config: dict[str, Any], key: str) -> None:
        """A collector whose defaults have a list of extensions replaces that of all collectors, so it has to name the logins."""
        shared = self.bare["target-allocator"]["service"].get("extensions", [])
        own = (self.bare[key].get("service") or {}).get("extensions", [])
        if self.extensions and own != shared and "extensions" not in config.get("service", {}):
            config.setdefault("service", {})["extensions"] = self._started(key)
