"""Kubeconfigs: what kubectl reads, over real sockets and with real plugin processes."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from kofagent.component.protocols import StartError
from kofagent.config.blocks import TlsServerBlock
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import NoCredentials, Unauthorized, Unreachable, Untrusted
from kofagent.kubernetes.kubeconfig import load
from kofagent.kubernetes.resources import PODS
from kofagent.net import watched_file
from kofagent.net.tls import server_context
from tests.support.certificates import Authority
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube

PLUGIN = """
import json, os, sys
count = int(open(sys.argv[1]).read() or 0) + 1
open(sys.argv[1], "w").write(str(count))
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
open(sys.argv[1] + ".info", "w").write(json.dumps({"info": info, "x": os.environ.get("X")}))
status = json.load(open(sys.argv[2]))
if status == "fail":
    print("secret", file=sys.stderr)
    sys.exit(3)
if status == "nonsense":
    print("secret nonsense")
    sys.exit(0)
print(json.dumps({"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


def write(path: Path, cluster: dict[str, Any], user: dict[str, Any], **context: Any) -> str:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "main",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
                "contexts": [
                    {"name": "main", "context": {"cluster": "c", "user": "u", **context}},
                    {"name": "broken", "context": {"cluster": "nowhere", "user": "u"}},
                ],
            }
        )
    )
    return str(path)


async def works(path: str) -> bool:
    client = ApiClient(load(path))
    await client.start()
    try:
        return await client.list_all(PODS) == []
    finally:
        await client.stop()


async def test_token_and_token_file(kube: FakeKube, tmp_path: Path) -> None:
    assert await works(write(tmp_path / "k", {"server": kube.url}, {"token": kube.token}))
    (tmp_path / "token").write_text(kube.token + "\n")
    path = write(tmp_path / "k", {"server": kube.url}, {"tokenFile": "token"}, namespace="mine")
    client = ApiClient(load(path))
    assert client.access.namespace == "mine"
    await client.start()
    assert await client.list_all(PODS) == []
    kube.tokens = {"other-token"}
    (tmp_path / "token").write_text("other-token")
    assert await client.list_all(PODS) == []
    kube.tokens = {"third"}
    with pytest.raises(Unauthorized):
        await client.list_all(PODS)
    await client.stop()


@pytest.mark.parametrize("inline", [False, True])
async def test_client_certificate(inline: bool, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, own = authority.issue("server"), authority.issue("client")
    files = {"certificate-authority": authority.cert, "client-certificate": own.cert, "client-key": own.key}
    said = {f"{k}-data": base64.b64encode(Path(v).read_bytes()).decode() for k, v in files.items()} if inline else files
    context = server_context(TlsServerBlock(cert_file=server.cert, key_file=server.key, client_ca_file=authority.cert))
    async with FakeKube(token="", ssl_context=context) as kube:
        ca = {k: v for k, v in said.items() if "authority" in k}
        user = {k: v for k, v in said.items() if "authority" not in k}
        assert await works(write(tmp_path / "k", {"server": kube.url, **ca}, user))
        assert await works(write(tmp_path / "k", {"server": kube.url, "insecure-skip-tls-verify": True}, user))
        assert await works(write(tmp_path / "k", {"server": kube.url, "tls-server-name": "localhost", **ca}, user))
        with pytest.raises(Unreachable, match="ertificate"):
            await works(write(tmp_path / "k", {"server": kube.url, "tls-server-name": "elsewhere", **ca}, user))
        with pytest.raises(Unreachable):
            await works(write(tmp_path / "k", {"server": kube.url, **ca}, {}))


def exec_user(tmp_path: Path, status: Any, **more: Any) -> dict[str, Any]:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "count").write_text("")
    (tmp_path / "status").write_text(json.dumps(status))
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "interactiveMode": "IfAvailable",
            "args": [str(tmp_path / "plugin.py"), str(tmp_path / "count"), str(tmp_path / "status")],
            "env": [{"name": "X", "value": "y"}],
            **more,
        }
    }


def runs(tmp_path: Path) -> int:
    return int((tmp_path / "count").read_text() or 0)


async def test_exec_plugin(kube: FakeKube, tmp_path: Path) -> None:
    later = datetime.fromtimestamp(time.time() + 3600, UTC).isoformat().replace("+00:00", "Z")
    user = exec_user(tmp_path, {"token": kube.token, "expirationTimestamp": later}, provideClusterInfo=True)
    client = ApiClient(load(write(tmp_path / "k", {"server": kube.url}, user)))
    await client.start()
    for _ in range(3):
        assert await client.list_all(PODS) == []
    assert runs(tmp_path) == 1
    told = json.loads((tmp_path / "count.info").read_text())
    assert told == {
        "x": "y",
        "info": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "spec": {"interactive": False, "cluster": {"server": kube.url}},
        },
    }
    kube.tokens = {"new"}  # refused before its time: the plugin is asked again
    (tmp_path / "status").write_text(json.dumps({"token": "new", "expirationTimestamp": "2020-01-01T00:00:00Z"}))
    assert await client.list_all(PODS) == []
    assert runs(tmp_path) >= 2
    before = runs(tmp_path)
    assert await client.list_all(PODS) == []  # expired at once: it runs each time
    assert runs(tmp_path) > before
    for status, message in (
        ("fail", "exited with status 3"),
        ("nonsense", "did not print an ExecCredential"),
        ({}, "neither a token nor"),
    ):
        (tmp_path / "status").write_text(json.dumps(status))
        with pytest.raises(Unreachable, match=message) as error:
            await client.list_all(PODS)
        assert "secret" not in str(error.value)
    await client.stop()


async def test_exec_plugin_is_asked_once_for_all_that_were_refused(kube: FakeKube, tmp_path: Path) -> None:
    user = exec_user(tmp_path, {"token": kube.token})
    client = ApiClient(load(write(tmp_path / "k", {"server": kube.url}, user)))
    await client.start()
    await asyncio.gather(*(client.list_all(PODS) for _ in range(8)))
    assert runs(tmp_path) == 1
    kube.tokens = {"new"}
    (tmp_path / "status").write_text(json.dumps({"token": "new"}))
    await asyncio.gather(*(client.list_all(PODS) for _ in range(8)))
    assert runs(tmp_path) == 2
    refused = asyncio.Event()

    async def late(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer third":
            return web.json_response({})
        await refused.wait()
        return web.json_response({}, status=401)

    kube.routes["/late"] = late
    (tmp_path / "status").write_text(json.dumps({"token": "third"}))
    waiting = asyncio.create_task(client.get("/late"))
    await eventually(lambda: any(path == "/late" for _, path, _ in kube.requests))
    kube.tokens = {"third"}
    await client.list_all(PODS)
    assert runs(tmp_path) == 3
    refused.set()  # the other's answer to the second token comes when there is a third already
    await waiting
    assert runs(tmp_path) == 3
    await client.stop()


async def test_exec_plugin_with_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, own = authority.issue("server"), authority.issue("client")
    context = server_context(TlsServerBlock(cert_file=server.cert, key_file=server.key, client_ca_file=authority.cert))
    user = exec_user(tmp_path, {"clientCertificateData": Path(own.cert).read_text(), "clientKeyData": Path(own.key).read_text()})
    async with FakeKube(token="", ssl_context=context) as kube:
        assert await works(write(tmp_path / "k", {"server": kube.url, "certificate-authority": authority.cert}, user))


async def test_client_certificate_and_ca_replaced_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_file, "INTERVAL", 0.0)
    (tmp_path / "made").mkdir()
    first, second = Authority(tmp_path / "made", "one"), Authority(tmp_path / "made", "two")
    files = {name: tmp_path / name for name in ("ca.crt", "client.crt", "client.key")}

    def write_files(authority: Authority, *names: str) -> None:
        own = authority.issue("client")
        for name, source in (("ca.crt", authority.cert), ("client.crt", own.cert), ("client.key", own.key)):
            if name in names:
                files[name].write_bytes(Path(source).read_bytes())

    def serving(authority: Authority) -> ssl.SSLContext:
        pair = authority.issue("server")
        return server_context(TlsServerBlock(cert_file=pair.cert, key_file=pair.key, client_ca_file=authority.cert))

    write_files(first, *files)
    async with FakeKube(token="", ssl_context=serving(first)) as kube:
        path = write(
            tmp_path / "k",
            {"server": kube.url, "certificate-authority": "ca.crt"},
            {"client-certificate": "client.crt", "client-key": "client.key"},
        )
        client = ApiClient(load(path))
        await client.start()
        assert await client.list_all(PODS) == []
        write_files(second, "client.crt")  # half of a pair changes nothing yet
        assert await client.list_all(PODS) == []
        write_files(first, "client.crt", "client.key")
        files["ca.crt"].write_bytes(b"")  # and an empty file does not stand for the system's authorities
        assert await client.list_all(PODS) == []
        await kube.stop()
        kube._ssl = serving(second)
        await kube.start()
        with pytest.raises(Untrusted):
            await client.list_all(PODS)
        write_files(second, *files)

        async def works_again() -> bool:
            try:
                return await client.list_all(PODS) == []
            except Unreachable:
                return False

        async with asyncio.timeout(10):
            while not await works_again():
                await asyncio.sleep(0.05)
        await client.stop()


@pytest.mark.parametrize("file, reason", [("absent", "/absent: No such file"), ("large", "/large has more than 10 bytes")])
async def test_credentials_that_cannot_be_read_are_named(
    file: str, reason: str, kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_file, "LIMIT", 10)
    (tmp_path / "large").write_text("x" * 11)
    path = write(tmp_path / "k", {"server": kube.url}, {"tokenFile": file})
    client = ApiClient(load(path))
    await client.start()
    with pytest.raises(NoCredentials, match=f"no credentials: .*{reason}"):
        await client.list_all(PODS)
    await client.stop()


def test_files_are_merged_the_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one, {"server": "http://one.test"}, {})
    write(two, {"server": "http://two.test"}, {})
    data = yaml.safe_load(two.read_text())
    data["contexts"].append({"name": "extra", "context": {"cluster": "d", "user": ""}})
    data["clusters"].append({"name": "d", "cluster": {"server": "http://extra.test/base/"}})
    two.write_text(yaml.safe_dump(data))
    monkeypatch.setenv("KUBECONFIG", f"{one}:{tmp_path / 'absent'}:{two}")
    assert load(None).server == "http://one.test"
    assert load(None, "extra").server == "http://extra.test/base"
    monkeypatch.delenv("KUBECONFIG")
    (tmp_path / ".kube").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StartError, match=r"no kubeconfig: .*\.kube/config does not exist; name one with --kubeconfig"):
        load(None)
    (tmp_path / ".kube" / "config").write_text(one.read_text())
    assert load(None).server == "http://one.test"


@pytest.mark.parametrize(
    "cluster, user, message",
    [
        ({"server": "ftp://x"}, {}, "not an http"),
        ({}, {}, "not an http"),
        ({"server": "https://x", "certificate-authority-data": "%%%"}, {}, "not base64"),
        ({"server": "https://x", "certificate-authority": "absent.crt"}, {}, "absent.crt cannot be read"),
        ({"server": "https://x", "certificate-authority-data": "bm90IFBFTQ=="}, {}, "not usable"),
        ({"server": "https://x", "proxy-url": "socks5://p"}, {}, "proxy-url"),
        ({"server": "https://x"}, {"auth-provider": {"name": "gcp"}}, "auth-provider"),
        ({"server": "https://x"}, {"exec": {"command": "x", "apiVersion": "v0"}}, "apiVersion"),
        ({"server": "https://x"}, {"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, "no command"),
        (
            {"server": "https://x"},
            {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-thing", "installHint": "install it"}},
            "no-such-thing is not found. install it",
        ),
        (
            {"server": "https://x"},
            {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "interactiveMode": "Always"}},
            "terminal",
        ),
    ],
)
def test_what_is_wrong_is_said(cluster: dict[str, Any], user: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=message):
        load(write(tmp_path / "k", cluster, user))


def test_unknown_names_and_bad_files(tmp_path: Path) -> None:
    path = write(tmp_path / "k", {"server": "https://x"}, {})
    with pytest.raises(StartError, match="no context 'other'; it has: broken, main"):
        load(path, "other")
    with pytest.raises(StartError, match="no cluster 'nowhere'; it has: c"):
        load(path, "broken")
    (tmp_path / "bad").write_text("{")
    with pytest.raises(StartError, match="not valid YAML"):
        load(str(tmp_path / "bad"))
    (tmp_path / "bad").write_text("[]")
    with pytest.raises(StartError, match="not a kubeconfig"):
        load(str(tmp_path / "bad"))
    (tmp_path / "bad").write_text("{}")
    with pytest.raises(StartError, match="no current-context"):
        load(str(tmp_path / "bad"))


async def test_basic_and_impersonation(tmp_path: Path) -> None:
    access = load(
        write(
            tmp_path / "k",
            {"server": "https://x", "proxy-url": "http://proxy.test:3128"},
            {"username": "me", "password": "p", "as": "jane", "as-groups": ["a", "b"], "as-user-extra": {"scopes": ["s"]}},
        )
    )
    headers = await access.headers()
    assert list(headers.items()) == [  # type: ignore[comparison-overlap]
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-scopes", "s"),
        ("Authorization", "Basic bWU6cA=="),
    ]
    assert access.proxy == "http://proxy.test:3128"
