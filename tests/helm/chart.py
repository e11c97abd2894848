"""The chart, rendered by the real helm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers import find

CHECKOUT = Path(__file__).parents[2]
CHART = CHECKOUT / "helm" / "kofagent"
RECIPES = [f for f in sorted((CHECKOUT / "configs").glob("*.yaml")) if "service" not in yaml.safe_load(f.read_text("utf-8"))]
"""Files of values; what has a `service` is a collector configuration, for `--config`."""
KUBERNETES = "1.34.4"
"""A helm that is built by `go install` believes in an old one."""
MONITORS = "monitoring.coreos.com/v1/ServiceMonitor"
INSTRUMENTATION = "opentelemetry.io/v1alpha1/Instrumentation"
NODE = "kof-collectors-node-exporter-collector"
CLUSTER = "kof-collectors-k8s-cluster-collector"
ROLES = {"node": NODE, "k8scluster": CLUSTER}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs helm."""
    program = find("helm")
    assert program is not None
    version = [] if arguments[0] == "install" else [f"--kube-version={KUBERNETES}"]
    return subprocess.run([program, *arguments, *version], capture_output=True, text=True, check=False)


@dataclass
class Release:
    """What `helm template` made."""

    text: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """All objects."""
        return [o for o in yaml.safe_load_all(self.text) if o]

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        found = [o for o in self.objects if o["kind"] == kind and o["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} {kind} {name}"
        return found[0]

    def kinds(self, kind: str) -> dict[str, dict[str, Any]]:
        """Objects of a kind by name."""
        return {o["metadata"]["name"]: o for o in self.objects if o["kind"] == kind}

    def workloads(self) -> Iterator[dict[str, Any]]:
        """DaemonSets and Deployments."""
        yield from (o for o in self.objects if o["kind"] in ("DaemonSet", "Deployment"))

    def pod(self, role: str) -> dict[str, Any]:
        """The pod's spec of a role."""
        spec: dict[str, Any] = self.get("DaemonSet" if role == "node" else "Deployment", ROLES[role])["spec"]["template"]["spec"]
        return spec

    def container(self, role: str) -> dict[str, Any]:
        """The agent's container."""
        container: dict[str, Any] = self.pod(role)["containers"][0]
        return container

    def rules(self, role: str) -> set[tuple[str, str, str]]:
        """Rules of a role's ClusterRole: group (or `url`), resource (or path; with the name it is restricted to), verbs."""
        role_object = self.kinds("ClusterRole").get(f"kof-{ROLES[role]}")
        out = set()
        for rule in (role_object or {"rules": []})["rules"]:
            verbs = ",".join(rule["verbs"])
            out |= {("url", url, verbs) for url in rule.get("nonResourceURLs", ())}
            names = [f" {name}" for name in rule.get("resourceNames", ())] or [""]
            out |= {(g, r + n, verbs) for g in rule.get("apiGroups", ()) for r in rule.get("resources", ()) for n in names}
        return out


def template(
    *files: Path | str,
    sets: Sequence[str] = (),
    apis: Sequence[str] = (),
    values: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> Release:
    """Renders the chart as release kof-collectors in namespace kof; `values` are the last file, written into `folder`."""
    arguments = ["template", "kof-collectors", str(CHART), "--namespace=kof"]
    arguments += [f"--values={file}" for file in files]
    if values is not None:
        assert folder is not None
        extra = folder / "extra.yaml"
        extra.write_text(yaml.safe_dump(values))
        arguments.append(f"--values={extra}")
    arguments += [f"--set={each}" for each in sets] + [f"--api-versions={each}" for each in apis]
    done = helm(*arguments)
    assert done.returncode == 0, done.stderr
    return Release(done.stdout)


def notes(folder: Path, *arguments: str) -> str:
    """What the chart tells after an install. `helm template` does not print it and `helm install` wants a cluster, so a copy of the
    chart in `folder` has it as an object."""
    chart = Path(shutil.copytree(CHART, folder / "chart"))
    (chart / "templates" / "NOTES.txt").rename(chart / "NOTES.txt")
    (chart / "templates" / "notes.yaml").write_text('kind: Notes\ndata: {{ tpl (.Files.Get "NOTES.txt") . | quote }}\n')
    done = helm("template", "kof-collectors", str(chart), "--namespace=kof", "--show-only=templates/notes.yaml", *arguments)
    assert done.returncode == 0, done.stderr
    text: str = yaml.safe_load(done.stdout)["data"]
    return text
