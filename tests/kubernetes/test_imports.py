"""The agent in a pod, with KOF's values as they are, never imports the `kubernetes` package: it alone takes 20 to 35 MiB."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from kofagent.config.blocks import TlsServerBlock
from kofagent.kubernetes.resources import PODS
from kofagent.net.tls import server_context
from tests.kubernetes.test_client import mount
from tests.support.certificates import Authority
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube, pod
from tests.support.servers import free_port

CODE = """
import asyncio, os, sys
from kofagent.kubernetes import access
access.SERVICE_ACCOUNT = sys.argv[1]
from kofagent.component import registry
from kofagent.pipeline.service import Service
from kofagent.values import load_values

async def main():
    service = Service(load_values([sys.argv[2]], sys.argv[3], registry, environ=os.environ, over=sys.argv[4:]))
    await service.start()
    await asyncio.to_thread(sys.stdin.readline)  # the test says when enough has happened
    status = {name: error for name, error in service.status().items() if error}
    await service.stop()
    print(sorted({name.split(".")[0] for name in sys.modules} & {"kubernetes", "botocore", "psutil", "bcrypt"}), status)

asyncio.run(main())
"""


@pytest.mark.parametrize("role", ["node", "k8scluster"])
@pytest.mark.slow
async def test_in_a_pod_the_kubernetes_package_is_not_imported(role: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    values = {
        "global": {"clusterName": "c"},
        "kof": {
            "basic_auth": False,
            "logs": {"endpoint": "http://127.0.0.1:1/logs"},
            "metrics": {"endpoint": "http://127.0.0.1:1/w"},
            "traces": {"endpoint": "http://127.0.0.1:1"},
        },
        "collectors": {"node": {}, "k8scluster": {}},
    }
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    changes: dict[str, Any] = {"service": {"telemetry": {"metrics": {"level": "none"}}}}
    if role == "node":
        changes["receivers"] = {
            "otlp": {"protocols": {name: {"endpoint": f"127.0.0.1:{free_port()}"} for name in ("grpc", "http")}},
            "prometheus": {"api_server": {"server_config": {"endpoint": f"127.0.0.1:{free_port()}"}}},
        }
    async with FakeKube(ssl_context=server_context(TlsServerBlock(cert_file=pair.cert, key_file=pair.key))) as kube:
        kube.put(PODS, pod("default", "a"))
        mount(tmp_path / "account", kube.token, Path(authority.cert).read_text())
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CODE,
            str(tmp_path / "account"),
            str(tmp_path / "values.yaml"),
            role,
            "yaml:" + json.dumps(changes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(kube.port)},
        )
        try:
            await eventually(lambda: any(query.get("watch") for _, _, query in kube.requests))
            await eventually(lambda: kube.watching)
        finally:
            out, err = await process.communicate(b"\n")
        assert process.returncode == 0, err.decode()
        assert out.decode().splitlines()[-1] == "[] {}", out.decode()
