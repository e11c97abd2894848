"""The client over real sockets: service account with TLS, tokens and CAs that change, errors, limits, sharing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from kofagent.component.protocols import Kubeconfig, StartError
from kofagent.config.blocks import TlsServerBlock
from kofagent.kubernetes import access as access_module
from kofagent.kubernetes import client as client_module
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.discover import discover
from kofagent.kubernetes.errors import ApiError, Forbidden, Gone, NotFound, TooLarge, Unauthorized, Unreachable
from kofagent.kubernetes.options import ApiOptions
from kofagent.kubernetes.resources import DEPLOYMENTS, EVENTS, PODS
from kofagent.net import watched_file
from kofagent.net.tls import server_context
from tests.support.certificates import Authority
from tests.support.components import FakeHost, eventually
from tests.support.fake_kube import FakeKube, TokenAccess, pod


def mount(folder: Path, token: str, ca: str) -> None:
    """The service account as a kubelet mounts it: a symlink to a folder of the moment."""
    number = len(list(folder.glob("..2*")))
    moment = folder / f"..2026_{number}"
    moment.mkdir(parents=True)
    (moment / "token").write_text(token)
    (moment / "ca.crt").write_text(ca)
    (moment / "namespace").write_text("kof")
    link = folder / "..new"
    link.symlink_to(moment.name)
    os.rename(link, folder / "..data")
    for name in ("token", "ca.crt", "namespace"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def in_pod(monkeypatch: pytest.MonkeyPatch, folder: Path, kube: FakeKube) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kube.port))
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(folder))


async def test_in_a_pod_token_and_ca_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_file, "INTERVAL", 0.0)
    first, second = (Authority(tmp_path, name) for name in ("ca-one", "ca-two"))
    pair = first.issue("server")
    kube = FakeKube(ssl_context=server_context(TlsServerBlock(cert_file=pair.cert, key_file=pair.key)))
    await kube.start()
    account = tmp_path / "account"
    mount(account, kube.token + "\n", Path(first.cert).read_text())
    in_pod(monkeypatch, account, kube)
    kube.put(PODS, pod("default", "a"))
    client = shared(FakeHost(), ApiOptions())
    await client.start()
    try:
        assert client.access.namespace == "kof"
        assert [o["metadata"]["name"] for o in await client.list_all(PODS)] == ["a"]
        kube.tokens = {"next"}  # the old one is refused before the file's interval is over: it is read again at once
        mount(account, "next", Path(first.cert).read_text())
        assert len(await client.list_all(PODS)) == 1
        kube.tokens = {"gone"}
        with pytest.raises(Unauthorized, match="does not accept the agent's credentials"):
            await client.list_all(PODS)
        kube.tokens = {"next"}
        # the server comes back with a certificate of another CA, which arrives in the mount a moment later
        await kube.stop()
        pair = second.issue("server2")
        kube._ssl = server_context(TlsServerBlock(cert_file=pair.cert, key_file=pair.key))
        await kube.start()
        with pytest.raises(Unreachable, match=r"TLS handshake failed: unable to get local issuer certificate|self.signed"):
            await client.list_all(PODS)
        mount(account, "next", Path(second.cert).read_text())

        async def works() -> bool:
            try:
                return len(await client.list_all(PODS)) == 1
            except Unreachable:
                return False

        async with asyncio.timeout(10):
            while not await works():
                await asyncio.sleep(0.05)
        for half in ("-----BEGIN CERT", ""):  # half written: what was trusted before still is
            mount(account, "next", half)
            assert await works()
    finally:
        await client.stop()
        await kube.stop()


def test_where_there_is_no_cluster_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for kind in ("serviceAccount", "none"):
        with pytest.raises(StartError, match="--kubeconfig"):
            shared(FakeHost(), ApiOptions(auth_type=kind))
    with pytest.raises(ValidationError, match="write kubeConfig"):
        ApiOptions.model_validate({"auth_type": "tls"})
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "::1")
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(tmp_path))
    with pytest.raises(StartError, match="automountServiceAccountToken"):
        shared(FakeHost(), ApiOptions())
    mount(tmp_path / "x", "t", "no PEM")
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(tmp_path / "x"))
    with pytest.raises(StartError, match="not a usable PEM file"):
        shared(FakeHost(), ApiOptions())
    assert shared(FakeHost(), ApiOptions(auth_type="none")).access.server == "https://[::1]:443"


async def test_one_client_per_service_and_options(kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kube.use(monkeypatch, tmp_path)
    one, two = FakeHost(), FakeHost()
    client = shared(one, ApiOptions())
    assert shared(one, ApiOptions()) is client
    assert shared(two, ApiOptions()) is not client
    assert shared(one, ApiOptions(auth_type="kubeConfig")) is not client
    kube.put(PODS, pod("default", "a"))
    await client.start()
    await client.start()
    await client.stop()
    assert len(await client.list_all(PODS)) == 1
    assert shared(one, ApiOptions()) is client
    await client.stop()
    await client.stop()
    with pytest.raises(Unreachable, match="stopped"):
        await client.list_all(PODS)
    await client.start()
    assert len(await client.list_all(PODS)) == 1
    await client.stop()
    monkeypatch.setattr(FakeHost, "kubeconfig", Kubeconfig(str(path)))
    assert shared(FakeHost(), ApiOptions()).access.server == kube.url


async def test_errors_by_status(kube: FakeKube, client: ApiClient) -> None:
    with pytest.raises(NotFound, match=r"no pods 'absent' in namespace default"):
        await client.get_object(PODS, "absent", "default")
    kube.forbidden = {("get", "pods")}
    with pytest.raises(
        Forbidden, match=r'agent may not get pods in namespace default \(403\); add to its Role the rule .*"verbs": \["get"\]'
    ):
        await client.get(PODS.path("default", "x"), resource=PODS, namespace="default")
    kube.failures = [("pods", 410), ("pods", 500), ("pods", 429)]
    with pytest.raises(Gone):
        async for _ in client.list_pages(PODS):
            pass
    with pytest.raises(ApiError, match="answered 500 to list pods"):
        await client.list_all(PODS)
    with pytest.raises(ApiError) as error:
        await client.list_all(PODS)
    assert error.value.status == 429
    kube.tokens = {"other"}
    with pytest.raises(Unauthorized) as refused:
        await client.list_all(PODS)
    assert "secret-token" not in str(refused.value)


async def test_answers_that_are_not_the_apis(kube: FakeKube, client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    body = [b""]

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body[0], status=200)

    kube.routes["/api/v1/pods"] = kube.routes["/api/v1/pods/x"] = answer
    for body[0] in (b"<html>", b"", b"[]", b'{"items":', b"\xff\xfe"):
        with pytest.raises(Unreachable, match="not a list of pods"):
            await client.list_all(PODS)
    with pytest.raises(Unreachable, match="not JSON"):
        await client.get("/api/v1/pods/x")
    for body[0] in (b"nonsense\n", b"[]\n", b'{"type":"ADDED"}\n'):
        with pytest.raises(Unreachable):
            async for _ in client.watch(PODS, version="1"):
                pass
    body[0] = b"x" * 10_000
    with pytest.raises(TooLarge):
        await client.get("/api/v1/pods/x", limit=9_999)
    monkeypatch.setattr(client_module, "LINE_LIMIT", 9_000)
    with pytest.raises(TooLarge):
        async for _ in client.watch(PODS, version="1"):
            pass


async def test_a_broken_or_absent_server(kube: FakeKube, client: ApiClient) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    kube.routes["/broken"] = broken
    kube.routes["/slow"] = slow
    with pytest.raises(Unreachable):
        await client.get("/broken")
    with pytest.raises(Unreachable, match=r"within 0.1 s"):
        await client.get("/slow", timeout=0.1)
    await kube.stop()
    with pytest.raises(Unreachable, match="Connect"):
        await client.get("/version")


async def test_at_most_ten_requests_wait_at_a_time(kube: FakeKube, client: ApiClient) -> None:
    under_way, most = 0, 0

    async def count(request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return web.json_response({})

    kube.routes["/count"] = count
    await asyncio.gather(*(client.get("/count") for _ in range(40)))
    assert most == client_module.UNDER_WAY


async def test_connections_are_used_again(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "a"))
    peers = set()

    async def peer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.json_response({"metadata": {}, "items": [], "pad": "x" * 200_000})

    kube.routes["/peer"] = kube.routes["/api/v1/pods"] = peer
    for _ in range(3):
        await client.get("/peer")
        await client.list_all(PODS)
    assert len(peers) == 1


async def test_open_watches_do_not_use_up_the_requests(kube: FakeKube, client: ApiClient) -> None:
    async def watch() -> None:
        async for _ in client.watch(PODS, version=str(kube.version)):
            pass

    tasks = [asyncio.create_task(watch()) for _ in range(20)]
    await eventually(lambda: kube.watching == 20)
    assert await client.list_all(PODS) == []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: kube.watching == 0)


async def test_requests_through_the_proxy_and_with_a_body(kube: FakeKube, client: ApiClient) -> None:
    seen: list[Any] = []

    async def kubelet(request: web.Request) -> web.Response:
        seen.append((request.method, request.headers["User-Agent"], await request.text(), request.headers.get("Content-Type")))
        return web.Response(text="metric 1", status=418)

    kube.routes["/api/v1/nodes/n1/proxy/metrics"] = kubelet
    answer = await client.request("GET", "/api/v1/nodes/n1/proxy/metrics")
    assert (answer.status, answer.body) == (418, b"metric 1")
    await client.request("POST", "/api/v1/nodes/n1/proxy/metrics", body={"a": 1})
    assert seen[0][1].startswith("kofagent/")
    assert seen[1][0::2] == ("POST", '{"a": 1}') and seen[1][3] == "application/json"


async def test_resources_are_found_by_name(kube: FakeKube, client: ApiClient) -> None:
    assert await discover(client, "deployments") == DEPLOYMENTS
    assert await discover(client, "events", "events.k8s.io") == EVENTS
    assert await discover(client, "widgets") is None


async def test_credentials_do_not_follow_a_redirect(kube: FakeKube) -> None:
    async with FakeKube(token="") as other:

        async def away(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(f"{other.url}/elsewhere")

        kube.routes["/away"] = kube.routes["/api/v1/pods"] = away
        client = ApiClient(TokenAccess(kube.url, kube.token))
        await client.start()
        with pytest.raises(ApiError, match="307"):
            await client.get("/away")
        with pytest.raises(ApiError, match="307"):
            await client.list_page(PODS)
        with pytest.raises(ApiError, match="307"):
            async for _ in client.watch(PODS, version="1"):
                pass
        await client.stop()
        assert other.requests == []
