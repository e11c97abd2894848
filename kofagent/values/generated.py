"""What kof-collectors generates for a role from `kof.*` and `global.*`: exporters, credentials, labels.

Both generations share this; each states its own differences.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from kofagent.config.errors import Path, Problem
from kofagent.config.redact import without_secrets
from kofagent.config.tree import Node, Origin

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
CREDENTIALS = ("metrics", "logs")
"""Signals whose storage needs a login; that of traces never does."""


@dataclass
class Values:
    """The merged values of a run: `user` layers over the generation's defaults."""

    tree: Node

    def value(self, *path: str) -> Any:
        """A scalar; None if it is absent."""
        node = self.tree.get(*path)
        return node.value if node is not None else None

    def text(self, *path: str) -> str:
        """A string; empty if it is absent, null or not a string."""
        found = self.value(*path)
        return found if isinstance(found, str) else ""

    def flag(self, *path: str) -> bool:
        """Whether a value is true."""
        return bool(self.value(*path))

    def made(self, value: Any, *path: str) -> Node:
        """A generated value that is derived from the value at `path`; plain data and nodes may be mixed."""
        origin = self.tree.nearest(path).origin
        return _made(value, replace(origin, layer="generated", note=".".join(path)))


def _made(value: Any, origin: Origin) -> Node:
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        return Node({k: _made(v, origin) for k, v in value.items()}, origin)
    if isinstance(value, list):
        return Node([_made(v, origin) for v in value], origin)
    return Node(value, origin)


def storage_exporter(values: Values, signal: str, url_key: str, *, always_insecure: bool = False) -> Node | None:
    """The exporter for KOF's storage of a signal; None if its endpoint is empty.

    `http` gets `tls.insecure: true` (0.1.1 `https` too), `https` takes `kof.<signal>.tls_options`,
    and `kof.basic_auth` its authenticator.
    """
    at = ("kof", signal, "endpoint")
    endpoint = values.text(*at)
    if not endpoint:
        return None
    out: dict[str, Any] = {url_key: endpoint}
    scheme = endpoint.partition("://")[0].lower()
    options = values.tree.get("kof", signal, "tls_options")
    if scheme == "https" and options is not None and options.is_map and options.value:
        out["tls"] = options.copy()
        if always_insecure:
            out["tls"].value.setdefault("insecure", values.made(True, *at))
    elif always_insecure or scheme == "http":
        out["tls"] = {"insecure": True}
    if signal in CREDENTIALS and values.flag("kof", "basic_auth"):
        out["auth"] = values.made({"authenticator": f"basicauth/{signal}"}, "kof", "basic_auth")
    return values.made(out, *at)


def credentials(values: Values) -> tuple[Node, list[str]]:
    """`basicauth/metrics` and `basicauth/logs` with references to their Secrets, and their names; nothing without basic_auth."""
    if not values.flag("kof", "basic_auth"):
        return Node({}), []
    out: dict[str, Any] = {}
    for signal in CREDENTIALS:
        at = ("kof", signal, "credentials_secret_name")
        secret = values.text(*at)
        out[f"basicauth/{signal}"] = values.made(
            {
                "client_auth": {
                    part: values.made(f"${{secret:{secret}/{values.text('kof', signal, f'{part}_key')}}}", *at)
                    for part in ("username", "password")
                }
            },
            *at,
        )
    return values.made(out, "kof", "basic_auth"), list(out)


def cluster_label(values: Values) -> Node:
    """`receivers.prometheus` with the cluster's label on every series."""
    label = values.text("global", "clusterLabel") or "clusterName"
    external = values.made({label: values.text("global", "clusterName")}, "global", "clusterName")
    return values.made({"config": {"global": {"external_labels": external}}}, "global", "clusterLabel")


def check_values(values: Values) -> list[Problem]:
    """Endpoints that are not URLs, logins that name no Secret, a cluster without a name."""
    problems = []
    label = values.value("global", "clusterLabel")
    if label is None or (isinstance(label, str) and not _LABEL.match(label)):
        problems.append(
            values.tree.problem(
                ("global", "clusterLabel"),
                f"{label!r} is not a valid label name",
                "use letters, digits and '_', such as clusterName",
            )
        )
    if values.value("global", "clusterName") in (None, ""):
        problems.append(values.tree.problem(("global", "clusterName"), "is empty", "set the name of the cluster"))
    for signal in CREDENTIALS if values.flag("kof", "basic_auth") else ():
        for key in ("credentials_secret_name", "username_key", "password_key"):
            if not _NAME.match(values.text("kof", signal, key)):
                problems.append(
                    values.tree.problem(
                        ("kof", signal, key),
                        "is not a valid name of a Secret or of a key",
                        "correct it, or set kof.basic_auth: false for a storage without a login",
                    )
                )
    for signal in ("metrics", "logs", "traces"):
        path: Path = ("kof", signal, "endpoint")
        endpoint = values.text("kof", signal, "endpoint")
        if endpoint and not endpoint.lower().startswith(("http://", "https://")) and "${" not in endpoint:
            shown = without_secrets(endpoint)
            problems.append(values.tree.problem(path, f"the URL {shown!r} has no scheme", "put http:// or https:// in front"))
    return problems
