"""Informers against a scripted API server: lists, watches, bookmarks, 410 in both ways, silence, RBAC, sharing."""

from __future__ import annotations

from typing import Any

import pytest

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.informer import Subscription, subscribe
from kofagent.kubernetes.resources import NODES, PODS, SERVICEMONITORS
from kofagent.kubernetes.watch import Timing
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube, pod

FAST = Timing(first_wait=0.02, longest_wait=0.1, watch_seconds=(30, 30), margin=5)


class Log:
    """What handlers were told, checked for consistency as it comes."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.known: dict[str, Any] = {}
        self.errors: list[str | None] = []

    def add(self, obj: Any) -> None:
        uid = obj["metadata"]["uid"]
        assert uid not in self.known
        self.known[uid] = obj
        self.said.append(f"+{obj['metadata']['name']}")

    def update(self, old: Any, new: Any) -> None:
        uid = new["metadata"]["uid"]
        assert self.known[uid] == old
        self.known[uid] = new
        self.said.append(f"~{new['metadata']['name']}")

    def delete(self, obj: Any) -> None:
        assert self.known.pop(obj["metadata"]["uid"]) == obj
        self.said.append(f"-{obj['metadata']['name']}")

    def join(self, client: ApiClient, resource: Any = PODS, **options: Any) -> Subscription:
        return subscribe(
            client,
            resource,
            on_add=self.add,
            on_update=self.update,
            on_delete=self.delete,
            report=self.errors.append,
            timing=FAST,
            **options,
        )


async def test_lists_in_pages_then_watches(kube: FakeKube, client: ApiClient) -> None:
    for i in range(7):
        kube.put(PODS, pod("default", f"p{i}"))
    log = Log()
    sub = log.join(client, fields=["metadata.labels", "status.podIP"], page=3)
    await sub.synced.wait()
    assert sorted(sub.store) == [f"default/p{i}" for i in range(7)]
    assert sub.get("default", "p3") == {
        "metadata": {"name": "p3", "namespace": "default", "uid": "uid-104", "labels": {}},
        "status": {"podIP": "10.0.0.1"},
    }
    kube.put(PODS, pod("default", "p3", ip="10.0.0.9"))
    kube.put(PODS, pod("default", "new"))
    kube.delete(PODS, "p0", "default")
    await eventually(lambda: log.said[7:] == ["~p3", "+new", "-p0"])
    lists = [q for m, p, q in kube.requests if "watch" not in q]
    assert [q["limit"] for q in lists] == ["3", "3", "3"]
    assert sub.informer.version == str(kube.version)


async def test_an_update_outside_the_cached_fields_is_not_told(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "a"))
    log = Log()
    sub = log.join(client, fields=["status.podIP"])
    await sub.synced.wait()
    kube.put(PODS, pod("default", "a", labels={"x": "y"}))
    kube.put(PODS, pod("default", "b"))
    await eventually(lambda: "+b" in log.said)
    assert log.said == ["+a", "+b"]


@pytest.mark.parametrize("way", ["drop", "end", "compact", "stream", "restart"])
async def test_goes_on_after(way: str, kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "stays"))
    kube.put(PODS, pod("default", "goes"))
    kube.put(PODS, pod("default", "changes"))
    kube.put(PODS, pod("default", "replaced"))
    log = Log()
    sub = log.join(client, fields=["status.podIP"])
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    if way == "restart":
        await kube.stop()
    elif way == "drop":
        kube.drop_watches()
    elif way == "end":
        kube.end_watches()
    await eventually(lambda: kube.watching == (1 if way in ("compact", "stream") else 0) or kube.watching)
    kube.silent = True  # what follows happens while nobody tells the informer
    kube.delete(PODS, "goes", "default")
    kube.put(PODS, pod("default", "changes", ip="10.9.9.9"))
    kube.delete(PODS, "replaced", "default")
    kube.put(PODS, pod("default", "replaced"))
    if way in ("compact", "restart"):
        kube.compact()
    kube.silent = False
    if way == "stream":
        kube.gone_in_stream()
    if way == "restart":
        await kube.start()
    if way in ("drop", "end"):
        kube.end_watches()
    await eventually(lambda: sorted(log.said[4:]) == sorted(["-goes", "~changes", "-replaced", "+replaced"]), message=str(log.said))
    assert sorted(sub.store) == ["default/changes", "default/replaced", "default/stays"]
    assert log.said.index("-replaced") < len(log.said) - 1 - log.said[::-1].index("+replaced")


async def test_a_list_that_expires_half_way_begins_again(kube: FakeKube, client: ApiClient) -> None:
    for i in range(5):
        kube.put(PODS, pod("default", f"p{i}"))
    kube.expire_continue = True
    log = Log()
    sub = log.join(client, page=2)
    await sub.synced.wait()
    assert sorted(log.said) == [f"+p{i}" for i in range(5)]


async def test_410_is_followed_by_a_list_at_once(kube: FakeKube, client: ApiClient) -> None:
    slow = Timing(first_wait=60, longest_wait=60)
    kube.put(PODS, pod("default", "a"))
    sub = subscribe(client, PODS, timing=slow)
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    kube.gone_in_stream()
    kube.put(PODS, pod("default", "b"))
    await eventually(lambda: len(sub.store) == 2, 10)


async def test_410_without_end_is_not_a_tight_loop(kube: FakeKube, client: ApiClient) -> None:
    kube.failures = [("watch=1", 410)] * 1000
    log = Log()
    sub = log.join(client)
    await eventually(lambda: log.errors)
    lists = len(kube.requests)
    assert lists < 20
    kube.failures.clear()
    await eventually(lambda: log.errors[-1:] == [None])
    await sub.stop()


async def test_bookmarks_move_the_version(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "a"))
    log = Log()
    sub = log.join(client)
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    for i in range(5):
        kube.put(NODES, {"metadata": {"name": f"n{i}"}})  # other objects move the cluster's version on
    assert sub.informer.version != str(kube.version)
    kube.bookmark()
    await eventually(lambda: sub.informer.version == str(kube.version))
    kube.requests.clear()
    kube.drop_watches()
    await eventually(lambda: kube.watching and kube.requests)
    assert kube.requests[0][2]["resourceVersion"] == str(kube.version)
    assert log.said == ["+a"]


async def test_a_silent_watch_is_dead(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "a"))
    kube.silent = True
    log = Log()
    sub = subscribe(
        client,
        PODS,
        on_add=log.add,
        on_delete=log.delete,
        timing=Timing(first_wait=0.02, longest_wait=0.1, watch_seconds=(100, 100), margin=-99.7),
    )
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    kube.put(PODS, pod("default", "b"))
    await eventually(lambda: sum("watch" in q for _, _, q in kube.requests) > 1)
    assert log.said == ["+a"]
    kube.silent = False
    await eventually(lambda: log.said == ["+a", "+b"])
    assert sum("watch" not in q for _, _, q in kube.requests) == 1  # it went on from where it was


async def test_another_history_of_the_server_is_listed_again(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "before"))
    log = Log()
    sub = log.join(client)
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    await kube.stop()
    kube.objects.clear()
    kube.history.clear()
    kube.version, kube.oldest = 7, 0  # etcd restored from an early backup
    kube.put(PODS, pod("default", "after"))
    await kube.start()
    await eventually(lambda: kube.watching)
    kube.bookmark()
    await eventually(lambda: log.said == ["+before", "+after", "-before"], message=str(log.said))


async def test_forbidden_says_which_rule_to_add_and_recovers(kube: FakeKube, client: ApiClient, caplog: Any) -> None:
    kube.put(SERVICEMONITORS, {"metadata": {"name": "m", "namespace": "default"}})
    kube.put(PODS, pod("default", "a"))
    kube.forbidden = {("list", "servicemonitors")}
    log, pods = Log(), Log()
    sub = log.join(client, SERVICEMONITORS)
    other = pods.join(client)
    await other.synced.wait()
    await eventually(lambda: log.errors)
    await eventually(lambda: sum(p.endswith("servicemonitors") for _, p, _ in kube.requests) > 3)
    assert log.errors == [
        "system:serviceaccount:kof:agent may not list servicemonitors at cluster scope (403); add to its ClusterRole the rule "
        '{"apiGroups": ["monitoring.coreos.com"], "resources": ["servicemonitors"], "verbs": ["list", "watch"]}'
    ]
    assert sum("may not" in r.message for r in caplog.records) == 1
    late = Log()
    late.join(client, SERVICEMONITORS)
    assert late.errors == log.errors
    kube.forbidden = set()
    await sub.synced.wait()
    await eventually(lambda: log.errors[1:] == [None])
    assert pods.errors == []


async def test_a_starting_server_that_refuses_everybody_is_not_an_error(kube: FakeKube, client: ApiClient) -> None:
    log = Log()
    sub = log.join(client)
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    kube.failures = [("watch=1", 403)] * 2
    kube.drop_watches()
    kube.put(PODS, pod("default", "a"))
    await eventually(lambda: log.said == ["+a"])
    assert log.errors == []
    kube.failures = [("watch=1", 403)] * 3
    kube.drop_watches()
    await eventually(lambda: len(log.errors) == 2)
    assert log.errors[0] is not None and log.errors[1] is None


async def test_a_missing_crd_is_waited_for(kube: FakeKube, client: ApiClient) -> None:
    kube.absent = {"servicemonitors"}
    log = Log()
    sub = log.join(client, SERVICEMONITORS)
    await eventually(lambda: log.errors)
    assert log.errors == ["the API server has no monitoring.coreos.com/v1 servicemonitors (404)"]
    kube.absent = set()
    await sub.synced.wait()


async def test_a_revoked_token_is_reported_and_a_new_one_taken(kube: FakeKube, client: ApiClient) -> None:
    log = Log()
    sub = log.join(client)
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    kube.tokens = {"next"}
    kube.drop_watches()
    await eventually(lambda: log.errors)
    assert "credentials" in (log.errors[0] or "") and "secret-token" not in (log.errors[0] or "")
    client.access.fresh = "next"  # type: ignore[attr-defined]
    kube.put(PODS, pod("default", "a"))
    await eventually(lambda: log.said == ["+a"])
    assert log.errors[1:] == [None]


async def test_equal_queries_share_one_watch(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "a", labels={"app": "x"}))
    one, two, three = Log(), Log(), Log()
    first = one.join(client, fields=["metadata.labels"])
    second = two.join(client, fields=["metadata.labels.app"])
    await second.synced.wait()
    third = three.join(client, fields=["metadata.labels"])
    assert three.said == ["+a"] and third.synced.is_set()
    await eventually(lambda: kube.watching)
    assert kube.watching == 1 and sum("watch" not in q for _, _, q in kube.requests) == 1
    kube.put(PODS, pod("default", "b"))
    await eventually(lambda: one.said == two.said == three.said == ["+a", "+b"])
    await first.stop()
    kube.put(PODS, pod("default", "c"))
    await eventually(lambda: two.said[-1] == "+c")
    assert one.said[-1] == "+b"
    await second.stop()
    await third.stop()
    await eventually(lambda: kube.watching == 0)
    assert client.informers == {}


async def test_a_reader_with_more_fields_makes_one_more_list(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "a", ip="10.1.1.1"))
    one, two = Log(), Log()
    first = one.join(client, fields=["metadata.labels"])
    await first.synced.wait()
    second = two.join(client, fields=["status.podIP"])
    assert not second.synced.is_set() and two.said == []
    await second.synced.wait()
    assert two.said == ["+a"]
    assert two.known["uid-101"]["status"] == {"podIP": "10.1.1.1"}
    assert second.store["default/a"]["metadata"]["labels"] == {}
    kube.put(PODS, pod("default", "a", ip="10.1.1.2"))
    await eventually(lambda: two.said == ["+a", "~a"])
    assert one.known["uid-101"] == two.known["uid-101"]


async def test_only_metadata_is_asked_for_where_that_is_enough(kube: FakeKube, client: ApiClient) -> None:
    log = Log()
    sub = log.join(client, NODES, fields=["metadata.labels"])
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    assert all("PartialObjectMetadata" in a for a in kube.accepts)


async def test_selectors(kube: FakeKube, client: ApiClient) -> None:
    kube.put(PODS, pod("default", "mine", node="n1"))
    kube.put(PODS, pod("default", "other", node="n2"))
    log = Log()
    sub = log.join(client, field_selector="spec.nodeName=n1", fields=["spec.nodeName"])
    await sub.synced.wait()
    assert log.said == ["+mine"]
    kube.put(PODS, pod("default", "mine", node="n3"))
    await eventually(lambda: log.said == ["+mine", "-mine"])


async def test_a_handler_that_fails_hurts_nobody_else(kube: FakeKube, client: ApiClient) -> None:
    def bad(obj: Any) -> None:
        raise RuntimeError("a bug")

    log = Log()
    subscribe(client, PODS, on_add=bad, timing=FAST)
    sub = log.join(client)
    await sub.synced.wait()
    kube.put(PODS, pod("default", "a"))
    await eventually(lambda: log.said == ["+a"])


async def test_an_object_without_a_name_is_left_out(kube: FakeKube, client: ApiClient) -> None:
    log = Log()
    sub = log.join(client)
    await sub.synced.wait()
    await eventually(lambda: kube.watching)
    for watch in kube._watches:
        watch.extra.append({"type": "ADDED", "object": {"metadata": {"resourceVersion": "101"}}})
    kube.put(PODS, pod("default", "a"))
    await eventually(lambda: log.said == ["+a"])
