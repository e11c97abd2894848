"""API servers behind an HTTP proxy, whose names only the proxy knows: what works went through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kofagent.component.protocols import StartError
from kofagent.config.blocks import TlsServerBlock
from kofagent.kubernetes import access as access_module
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.errors import Unreachable
from kofagent.kubernetes.kubeconfig import load
from kofagent.kubernetes.options import ApiOptions
from kofagent.kubernetes.resources import PODS
from kofagent.net.tls import server_context
from tests.kubernetes.test_client import mount
from tests.kubernetes.test_kubeconfig import write
from tests.support.certificates import Authority
from tests.support.components import FakeHost
from tests.support.fake_kube import FakeKube, pod
from tests.support.faulty import ConnectProxy


async def names(client: ApiClient) -> list[str]:
    await client.start()
    try:
        found = [o["metadata"]["name"] for o in await client.list_all(PODS)]
        async for event in client.watch(PODS, version="1", seconds=1):
            found.append(event["type"])
            break
        return found
    finally:
        await client.stop()


async def test_a_kubeconfig_with_proxy_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", dns=("api.test",))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # proxy-url wins, NO_PROXY does not touch it
    monkeypatch.setenv("NO_PROXY", "*")
    async with FakeKube(ssl_context=server_context(TlsServerBlock(cert_file=pair.cert, key_file=pair.key))) as kube:
        kube.put(PODS, pod("default", "a"))
        async with ConnectProxy({"api.test:6443": kube.port}, login="me:pass") as proxy:
            cluster: dict[str, Any] = {
                "server": "https://api.test:6443",
                "certificate-authority": authority.cert,
                "proxy-url": f"http://me:pass@127.0.0.1:{proxy.port}",
            }
            assert await names(ApiClient(load(write(tmp_path / "k", cluster, {"token": kube.token})))) == ["a", "ADDED"]
            assert set(proxy.asked) == {"CONNECT api.test:6443 HTTP/1.1"}
            cluster["proxy-url"] = f"http://me:wrong@127.0.0.1:{proxy.port}"
            with pytest.raises(Unreachable, match="the proxy answered 407") as error:
                await names(ApiClient(load(write(tmp_path / "k", cluster, {"token": kube.token}))))
            assert "wrong" not in str(error.value)
        cluster["proxy-url"] = "http://127.0.0.1:1"
        with pytest.raises(Unreachable, match="cannot connect to the proxy"):
            await names(ApiClient(load(write(tmp_path / "k", cluster, {"token": kube.token}))))


async def test_the_environments_proxy_as_client_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    authority = Authority(tmp_path)
    pair = authority.issue("server", dns=("api.test",))
    account = tmp_path / "account"
    async with FakeKube(ssl_context=server_context(TlsServerBlock(cert_file=pair.cert, key_file=pair.key))) as kube:
        kube.put(PODS, pod("default", "a"))
        mount(account, kube.token, Path(authority.cert).read_text())
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "api.test")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(account))
        async with ConnectProxy({"api.test:443": kube.port}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
            assert await names(shared(FakeHost(), ApiOptions())) == ["a", "ADDED"]
            assert proxy.asked and set(proxy.asked) == {"CONNECT api.test:443 HTTP/1.1"}
            asked = len(proxy.asked)
            monkeypatch.setenv("NO_PROXY", "cluster.local,.test")
            with pytest.raises(Unreachable):  # directly: nobody knows api.test
                await names(shared(FakeHost(), ApiOptions()))
            assert len(proxy.asked) == asked
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
        monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
        with pytest.raises(StartError, match="HTTPS_PROXY is not the URL of an http or https proxy"):
            shared(FakeHost(), ApiOptions())


async def test_a_plain_server_through_a_proxy(tmp_path: Path, kube: FakeKube) -> None:
    async with ConnectProxy({"api.test:80": kube.port, "api.test": kube.port}) as proxy:
        path = write(
            tmp_path / "k", {"server": "http://api.test", "proxy-url": f"http://127.0.0.1:{proxy.port}"}, {"token": kube.token}
        )
        assert await names(ApiClient(load(path))) == []
        assert proxy.asked[0].startswith("GET http://api.test/api/v1/pods?")
