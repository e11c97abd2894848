"""Kubeconfigs of the kinds that users have against a real kube-apiserver, and a proxy in front of it that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kofagent.cli.standalone import look
from kofagent.component.protocols import StartError
from kofagent.kubernetes import client as client_module
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import Unauthorized, Unreachable, Untrusted
from kofagent.kubernetes.informer import subscribe
from kofagent.kubernetes.kubeconfig import load
from kofagent.kubernetes.resources import CONFIGMAPS, NAMESPACES
from kofagent.kubernetes.watch import Timing
from tests.cluster import Cluster
from tests.kubernetes.conftest import stop_all
from tests.kubernetes.test_kubeconfig import write
from tests.support.components import eventually
from tests.support.faulty import ConnectProxy, FaultyProxy

pytestmark = [pytest.mark.server("kube-apiserver"), pytest.mark.server("etcd")]

RULES = [{"apiGroups": [""], "resources": ["namespaces", "configmaps"], "verbs": ["get", "list", "watch"]}]
MAPS = "/api/v1/namespaces/default/configmaps"
PLUGIN = """#!{python}
import json, os, sys, time, datetime
folder = {folder!r}
open(folder + "/runs", "a").write("x")
status = json.load(open(folder + "/status.json"))
status["expirationTimestamp"] = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=status.pop("life"))).isoformat()
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Path(tmp_path_factory.mktemp("cluster")) / "c", controllers=False, scheduler=False) as running:
        running.namespace("default")
        running.service_account("default", "reader", RULES)
        yield running


async def lists(path: str | None, context: str = "") -> bool:
    """Lists and watches with a kubeconfig."""
    client = ApiClient(load(path, context))
    await client.start()
    try:
        names = [n["metadata"]["name"] for n in await client.list_all(NAMESPACES)]
        async for event in client.watch(NAMESPACES, version="0", seconds=5):
            return "kube-system" in names and event["type"] == "ADDED"
        return False
    finally:
        await client.stop()


def parts(cluster: Cluster) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cluster and the user of the administrator's kubeconfig, with embedded certificates as kind's."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    return config["clusters"][0]["cluster"], config["users"][0]["user"]


async def test_certificates_embedded_and_in_files(cluster: Cluster, tmp_path: Path) -> None:
    place, user = parts(cluster)
    assert "client-certificate-data" in user and await lists(str(cluster.kubeconfig))
    (tmp_path / "pki").mkdir()
    for name, data in (
        ("ca.crt", place["certificate-authority-data"]),
        ("me.crt", user["client-certificate-data"]),
        ("me.key", user["client-key-data"]),
    ):
        (tmp_path / "pki" / name).write_bytes(base64.b64decode(data))
    files = {"client-certificate": "pki/me.crt", "client-key": "pki/me.key"}
    assert await lists(write(tmp_path / "k", {"server": cluster.url, "certificate-authority": "pki/ca.crt"}, files))
    assert await lists(write(tmp_path / "k", {"server": cluster.url, "insecure-skip-tls-verify": True}, files))
    with pytest.raises(Untrusted, match="TLS handshake failed"):
        await lists(write(tmp_path / "k", {"server": cluster.url}, files))


async def test_tokens(cluster: Cluster, tmp_path: Path) -> None:
    place, _ = parts(cluster)
    assert await lists(write(tmp_path / "k", place, {"token": cluster.token("default", "reader")}))
    (tmp_path / "token").write_text(cluster.token("default", "reader") + "\n")
    assert await lists(write(tmp_path / "k", place, {"tokenFile": "token"}))
    with pytest.raises(Unauthorized):
        await lists(write(tmp_path / "k", place, {"token": "nobody's"}))


async def test_names_of_the_certificate(cluster: Cluster, tmp_path: Path) -> None:
    place, user = parts(cluster)
    assert await lists(write(tmp_path / "k", {**place, "tls-server-name": "kubernetes"}, user))
    by_name = {**place, "server": place["server"].replace("127.0.0.1", "localhost")}
    assert await lists(write(tmp_path / "k", by_name, user))
    with pytest.raises(Untrusted, match="ertificate"):
        await lists(write(tmp_path / "k", {**place, "tls-server-name": "elsewhere"}, user))


async def test_exec_plugins(cluster: Cluster, tmp_path: Path) -> None:
    place, user = parts(cluster)
    plugin = tmp_path / "login"
    plugin.write_text(PLUGIN.format(python=sys.executable, folder=str(tmp_path)))
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    runs = tmp_path / "runs"
    asked = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./login", "interactiveMode": "IfAvailable"}}
    (tmp_path / "status.json").write_text(json.dumps({"token": cluster.token("default", "reader"), "life": 3600}))
    assert await lists(write(tmp_path / "k", place, asked))
    assert runs.read_text() == "x"
    (tmp_path / "status.json").write_text(
        json.dumps(
            {  # near its end: renewed for the watch
                "clientCertificateData": base64.b64decode(user["client-certificate-data"]).decode(),
                "clientKeyData": base64.b64decode(user["client-key-data"]).decode(),
                "life": 5,
            }
        )
    )
    runs.write_text("")
    assert await lists(write(tmp_path / "k", place, asked))
    assert len(runs.read_text()) >= 2
    plugin.write_text(f"#!{sys.executable}\nraise SystemExit('not logged in')\n")
    with pytest.raises(StartError, match=r"exec plugin .*login exited with status 1"):
        await look(write(tmp_path / "k", place, asked), "", print)


async def test_contexts_in_several_files(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, user = parts(cluster)
    write(tmp_path / "a", {"server": "https://127.0.0.1:1"}, {})
    (tmp_path / "b").write_text(
        json.dumps(
            {
                "clusters": [{"name": "real", "cluster": place}],
                "users": [{"name": "me", "user": user}],
                "contexts": [{"name": "real", "context": {"cluster": "real", "user": "me"}}],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(tmp_path / name) for name in ("a", "absent", "b")))
    assert await lists(None, "real")
    said: list[str] = []
    assert not (await look("", "real", said.append)).on_node and said == []


async def test_through_a_proxy(cluster: Cluster, tmp_path: Path) -> None:
    place, user = parts(cluster)
    port = urlsplit(place["server"]).port or 0
    async with ConnectProxy({"kubernetes.default.svc:443": port}) as proxy:
        far = {**place, "server": "https://kubernetes.default.svc", "proxy-url": f"http://127.0.0.1:{proxy.port}"}
        assert await lists(write(tmp_path / "k", far, user))
        assert set(proxy.asked) == {"CONNECT kubernetes.default.svc:443 HTTP/1.1"}


async def test_a_certificate_that_has_expired(cluster: Cluster, tmp_path: Path) -> None:
    place, _ = parts(cluster)
    authority = x509.load_pem_x509_certificate(cluster.ca.read_bytes())
    signer = serialization.load_pem_private_key((cluster.folder / "keys" / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"), x509.NameAttribute(NameOID.COMMON_NAME, "old")]
    )
    old = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(signer, hashes.SHA256())
    )
    (tmp_path / "old.crt").write_bytes(old.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "old.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    path = write(tmp_path / "k", place, {"client-certificate": "old.crt", "client-key": "old.key"})
    with pytest.raises(StartError, match=r"does not accept the kubeconfig's credentials \(401\): they have expired"):
        await look(path, "", print)


async def test_a_proxy_that_hangs_stalls_and_cuts(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, user = parts(cluster)
    said: list[str] = []
    errors: list[str | None] = []

    def put(name: str) -> None:
        cluster.api.call("POST", MAPS, {"metadata": {"name": name, "labels": {"test": "yes"}}, "data": {"pad": "x" * 2000}})

    for i in range(10):
        put(f"old{i}")
    async with FaultyProxy(urlsplit(place["server"]).port or 0) as proxy:
        client = ApiClient(load(write(tmp_path / "k", {**place, "server": f"https://127.0.0.1:{proxy.port}"}, user)))
        await client.start()
        monkeypatch.setattr(client_module, "REQUEST_TIMEOUT", 1.0)
        proxy.stalled = True  # accepts and never answers, not even the TLS handshake
        with pytest.raises(Unreachable):
            async with asyncio.timeout(20):
                await client.list_page(NAMESPACES)
        proxy.stalled = False
        sub = subscribe(
            client,
            CONFIGMAPS,
            namespace="default",
            label_selector="test=yes",
            fields=["data"],
            page=3,
            report=errors.append,
            on_add=lambda o: said.append(o["metadata"]["name"]),
            timing=Timing(first_wait=0.05, longest_wait=0.2, watch_seconds=(2, 2), margin=0.5),
        )
        async with asyncio.timeout(30):
            await sub.synced.wait()
        proxy.stalled = True
        await asyncio.to_thread(put, "while-silent")
        await eventually(lambda: (errors and "said nothing for" in (errors[-1] or "")) or proxy.connections > 3, 20)
        proxy.stalled = False
        await eventually(lambda: "while-silent" in said)
        for cut in (3000, 4000, 5000, 6000):  # within the handshake, an answer's head, an object
            proxy.cuts = [cut]
            proxy.drop()
            await asyncio.to_thread(put, f"cut{cut}")
            await eventually(lambda: not proxy.cuts)
        await eventually(
            lambda: (
                sorted(said)
                == sorted({*(f"old{i}" for i in range(10)), "while-silent", *(f"cut{n}" for n in (3000, 4000, 5000, 6000))})
            ),
            30,
            str(said),
        )
        assert len(sub.store) == 15
        await stop_all(client)
        await client.stop()
