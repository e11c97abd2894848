"""The client and its informers against a real kube-apiserver and etcd."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from kofagent.kubernetes import access as access_module
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.discover import discover
from kofagent.kubernetes.errors import Gone, Unauthorized
from kofagent.kubernetes.informer import Subscription, subscribe
from kofagent.kubernetes.kubeconfig import load
from kofagent.kubernetes.options import ApiOptions
from kofagent.kubernetes.resources import CONFIGMAPS, CRONJOBS, DEPLOYMENTS, NAMESPACES, PODS, SECRETS, SERVICEMONITORS
from kofagent.kubernetes.watch import Query, Timing, follow
from tests.cluster import Cluster
from tests.kubernetes.conftest import stop_all
from tests.support.components import FakeHost, eventually

pytestmark = [pytest.mark.server("kube-apiserver"), pytest.mark.server("etcd")]

FAST = Timing(first_wait=0.1, longest_wait=0.5, watch_seconds=(60, 60), margin=5)
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Path(tmp_path_factory.mktemp("cluster")) / "c", controllers=False, scheduler=False) as running:
        yield running


@pytest.fixture
async def admin(cluster: Cluster) -> AsyncIterator[ApiClient]:
    client = ApiClient(load(str(cluster.kubeconfig)))
    await client.start()
    yield client
    await stop_all(client)
    await client.stop()


def put(cluster: Cluster, name: str, value: str) -> None:
    if cluster.api.request("PUT", f"{MAPS}/{name}", body(name, value))[0] == 404:
        cluster.api.call("POST", MAPS, body(name, value))


def delete(cluster: Cluster, name: str) -> None:
    cluster.api.call("DELETE", f"{MAPS}/{name}")


def body(name: str, value: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"test": "yes"}}, "data": {"value": value}}


def clear(cluster: Cluster) -> None:
    cluster.api.call("DELETE", f"{MAPS}?labelSelector=test")


class Told:
    """What handlers heard, as `+name=value`."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.errors: list[str | None] = []

    def join(self, client: ApiClient, timing: Timing = FAST) -> Subscription:
        def name(mark: str, obj: Any) -> None:
            self.said.append(f"{mark}{obj['metadata']['name']}={obj['data']['value']}")

        return subscribe(
            client,
            CONFIGMAPS,
            namespace="default",
            label_selector="test=yes",
            fields=["data"],
            timing=timing,
            page=2,
            on_add=lambda o: name("+", o),
            on_update=lambda _, o: name("~", o),
            on_delete=lambda o: name("-", o),
            report=self.errors.append,
        )


async def test_pages_then_a_watch(cluster: Cluster, admin: ApiClient) -> None:
    clear(cluster)
    for i in range(5):
        put(cluster, f"m{i}", "1")
    told = Told()
    sub = told.join(admin)
    async with asyncio.timeout(20):
        await sub.synced.wait()
    assert told.said == [f"+m{i}=1" for i in range(5)]
    put(cluster, "m1", "2")
    put(cluster, "new", "1")
    delete(cluster, "m0")
    await eventually(lambda: told.said[5:] == ["~m1=2", "+new=1", "-m0=1"], message=str(told.said))
    assert told.errors == []


async def test_resources_as_the_server_has_them(cluster: Cluster, admin: ApiClient) -> None:
    for resource in (PODS, DEPLOYMENTS, CRONJOBS, NAMESPACES):
        assert await discover(admin, resource.plural, resource.group) == resource
    assert await discover(admin, SERVICEMONITORS.plural, SERVICEMONITORS.group) is None
    told: list[str | None] = []
    sub = subscribe(admin, SERVICEMONITORS, timing=FAST, report=told.append)
    await eventually(lambda: told)
    assert told == ["the API server has no monitoring.coreos.com/v1 servicemonitors (404)"]
    await sub.stop()


async def test_only_metadata_comes_where_that_is_enough(cluster: Cluster, admin: ApiClient) -> None:
    sub = subscribe(admin, NAMESPACES, fields=["metadata.labels"], timing=FAST)
    async with asyncio.timeout(20):
        await sub.synced.wait()
    namespace = sub.store["default"]
    assert set(namespace) == {"metadata"} and namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": "default"}
    page = await admin.list_page(NAMESPACES, only_metadata=True)
    assert all("spec" not in item for item in page.items)
    cluster.namespace("watched")
    await eventually(lambda: "watched" in sub.store)


@pytest.mark.parametrize("expired", [False, True])
async def test_nothing_is_lost_when_the_api_server_goes_away(expired: bool, cluster: Cluster, admin: ApiClient) -> None:
    clear(cluster)
    for name in ("stays", "goes", "changes"):
        put(cluster, name, "1")
    told = Told()
    sub = told.join(admin)
    await sub.synced.wait()
    page = await admin.list_page(CONFIGMAPS, "default", label_selector="test=yes", limit=1)
    if expired:
        # while nobody can watch, the history of the change is compacted away
        await asyncio.to_thread(_change_unseen, cluster, admin)
    else:
        await asyncio.to_thread(cluster.restart, "kube-apiserver")
        put(cluster, "changes", "2")
        delete(cluster, "goes")
        put(cluster, "new", "1")
    await eventually(lambda: sorted(told.said[3:]) == ["+new=1", "-goes=1", "~changes=2"], 60, str(told.said))
    assert sorted(sub.store) == ["default/changes", "default/new", "default/stays"]
    if expired:
        with pytest.raises(Gone):
            await admin.list_page(CONFIGMAPS, "default", label_selector="test=yes", limit=1, continue_token=page.continue_token)
        with pytest.raises(Gone):
            async for _ in admin.watch(CONFIGMAPS, version=page.version, seconds=5):
                pass


def _change_unseen(cluster: Cluster, admin: ApiClient) -> None:
    server = admin.access.server
    admin.access.server = "https://127.0.0.1:1"  # the agent cannot reach it
    cluster.restart("kube-apiserver")
    put(cluster, "changes", "2")
    delete(cluster, "goes")
    put(cluster, "new", "1")
    cluster.expire()
    admin.access.server = server


async def test_follow_from_a_forgotten_version_lists(cluster: Cluster, admin: ApiClient) -> None:
    clear(cluster)
    put(cluster, "one", "1")
    version = (await admin.list_page(CONFIGMAPS, "default")).version
    put(cluster, "two", "1")
    query = Query(CONFIGMAPS, "default", "test=yes")

    async def first(count: int) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        async with asyncio.timeout(30), aclosing(follow(admin, query, version=version, timing=FAST)) as events:
            async for event in events:
                found.append((event.type, event.object.get("metadata", {}).get("name", "")))
                if len(found) == count:
                    break
        return found

    assert await first(1) == [("ADDED", "two")]
    await asyncio.to_thread(cluster.expire)
    assert await first(4) == [("LISTING", ""), ("ITEM", "one"), ("ITEM", "two"), ("LISTED", "")]


async def test_rbac_names_what_is_missing_and_the_rest_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    cluster.service_account("default", "limited", rules)
    client = ApiClient(load(str(cluster.kubeconfig_of("default", "limited"))))
    await client.start()
    told, secrets = Told(), []
    sub = told.join(client)
    subscribe(client, SECRETS, namespace="kube-system", timing=FAST, report=secrets.append)
    async with asyncio.timeout(20):
        await sub.synced.wait()
    await eventually(lambda: secrets)
    assert secrets == [
        "system:serviceaccount:default:limited may not list secrets in namespace kube-system (403); add to its Role the rule "
        '{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}'
    ]
    put(cluster, "while-forbidden", "1")
    await eventually(lambda: "+while-forbidden=1" in told.said)
    cluster.service_account(
        "default", "limited", [*rules, {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}]
    )
    await eventually(lambda: secrets[1:] == [None], 30)
    await stop_all(client)
    await client.stop()


async def test_in_a_pod_a_token_is_rotated_and_revoked(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]
    cluster.service_account("default", "agent", rules)
    folder = cluster.mounted_token(tmp_path / "account", "default", "agent")
    host, port = cluster.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(folder))
    client = shared(FakeHost(), ApiOptions())
    await client.start()
    told = Told()
    sub = told.join(client, Timing(first_wait=0.1, longest_wait=0.5, watch_seconds=(1, 1), margin=5))
    async with asyncio.timeout(20):
        await sub.synced.wait()
    cluster.mounted_token(folder, "default", "agent")
    put(cluster, "rotated", "1")
    await eventually(lambda: "+rotated=1" in told.said)
    assert told.errors == []
    cluster.api.call("DELETE", "/api/v1/namespaces/default/serviceaccounts/agent")
    await eventually(lambda: told.errors, 60)
    assert "does not accept the agent's credentials (401) to watch configmaps in namespace default" in (told.errors[0] or "")
    with pytest.raises(Unauthorized):
        await client.list_all(CONFIGMAPS, "default")
    put(cluster, "revoked", "1")
    cluster.service_account("default", "agent", rules)
    cluster.mounted_token(folder, "default", "agent")
    await eventually(lambda: "+revoked=1" in told.said, 30)
    await eventually(lambda: told.errors[1:] == [None])
    await stop_all(client)
    await client.stop()


async def test_etcd_restored_from_an_earlier_time(cluster: Cluster, admin: ApiClient) -> None:
    """The last test: it throws the cluster's content away."""
    clear(cluster)
    put(cluster, "before", "1")
    told = Told()
    sub = told.join(admin, Timing(first_wait=0.1, longest_wait=0.5, watch_seconds=(8, 8), margin=5, without_bookmark=4))
    await sub.synced.wait()

    def forget() -> None:
        cluster.stop("kube-apiserver")
        cluster.stop("etcd")
        shutil.rmtree(cluster.folder / "etcd")
        cluster.processes.resume("etcd")
        cluster.resume("kube-apiserver")
        cluster.wait_for("default namespace", lambda: cluster.api.request("GET", "/api/v1/namespaces/default")[0] == 200)
        put(cluster, "after", "1")

    await asyncio.to_thread(forget)
    await eventually(lambda: sorted(told.said[1:]) == ["+after=1", "-before=1"], 60, str(told.said))
    put(cluster, "later", "1")
    await eventually(lambda: told.said[-1] == "+later=1")
