"""`--collector NAME,NAME,...`: several collectors in one process."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kofagent.cli.sources import load_several
from kofagent.component.protocols import Kubeconfig
from kofagent.config.model import LoadedConfig
from kofagent.kubernetes.resources import NODES
from kofagent.pipeline.supervisor import Supervisor
from kofagent.pipeline.together import listeners
from tests.support.fake_kube import FakeKube
from tests.values.golden import NEWER_NAMES, needs_newer, newer, write_values

NODE = {
    "OTEL_K8S_NODE_NAME": "n1",
    "K8S_NODE_NAME": "n1",
    "OTEL_K8S_NODE_IP": "127.0.0.1",
    "OTEL_K8S_NAMESPACE": "kof",
    "OTEL_K8S_POD_NAME": "p",
}
CLOUDS = ("ec2", "gcp", "azure", "kubeadm")
SECRETS = {f"{name}_{key}": "x" for name in ("KOF_VM", "KOF_JAEGER", "AWS") for key in ("USER", "PASSWORD")}


def arguments(file: str, collectors: list[str], **options: Any) -> argparse.Namespace:
    given = {"generation": None, "part": None, "config": [], "role": None, "collector": None, **options}
    return argparse.Namespace(values=[file], collectors=collectors, **given)


def on_free_ports(plans: dict[str, LoadedConfig], state: Path) -> dict[str, LoadedConfig]:
    """What listens on other ports, and writes to other directories, where the tests run."""
    for name, plan in plans.items():
        for one in listeners(name, plan):
            one.move("127.0.0.1", 0)
        for id, options in plan.components["extensions"].items():
            if id.startswith("file_storage"):
                options.directory = str(state) + options.directory  # type: ignore[attr-defined]
        for id, options in plan.components["receivers"].items():
            if id == "hostmetrics":
                options.root_path = ""  # type: ignore[attr-defined]
        for id, options in plan.components["processors"].items():
            if id.startswith("resourcedetection"):
                options.detectors = [each for each in options.detectors if each not in CLOUDS]  # type: ignore[attr-defined]
    return plans


@pytest.fixture
async def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[FakeKube, Kubeconfig]]:
    for variable, value in NODE.items():
        monkeypatch.setenv(variable, value)
    async with FakeKube() as server:
        server.put(NODES, {"metadata": {"name": "n1"}})
        yield server, Kubeconfig(str(server.use(monkeypatch, tmp_path)))


@needs_newer
@pytest.mark.parametrize("name", NEWER_NAMES)
async def test_the_daemon_sets_of_every_release_run_together(name: str, tmp_path: Path, kube: tuple[FakeKube, Kubeconfig]) -> None:
    file = write_values(tmp_path, newer(name)["values"])
    collectors = [key for key, one in newer(name)["rendered"].items() if one["mode"] == "daemonset"]
    given = arguments(file, collectors, generation=name.partition("-")[0])
    environ = {**NODE, **SECRETS}
    plans, _ = load_several(given, environ, need_secrets=False)
    supervisor = Supervisor(on_free_ports(plans, tmp_path), kubeconfig=kube[1])
    await supervisor.start()
    await supervisor.stop()
