"""One observation: the subscriptions that tell one reader the endpoints that it wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kofagent.component.observing import Telling, Told
from kofagent.extensions.k8s_observer.folders import Folders
from kofagent.extensions.k8s_observer.objects import Source
from kofagent.extensions.k8s_observer.pods import FIELDS, Rules, endpoints, folder_uid, on_disk
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.informer import Subscription, key_of, subscribe
from kofagent.kubernetes.resources import PODS
from kofagent.kubernetes.trim import Object

LOOK_SECONDS = 1.0
"""Time between two looks at the folders of logs."""
PATIENCE = 30.0
"""Seconds after which they are looked at although the API server has not been heard of."""
Reporter = Callable[[str], Callable[[str | None], None]]


class Place(NamedTuple):
    """Where the pods are that are told of."""

    namespaces: tuple[str, ...]
    """Empty: all."""
    folders: Folders | None
    """Those of this node; None where its disk does not matter."""
    own: bool
    """The API is asked for pods of this node only."""


class Watching:
    """Follows the API, and for receivers of files the disk, from `start` to `stop`."""

    def __init__(self, name: str, client: ApiClient, told: Told, reporter: Reporter) -> None:
        self._name = name
        self._client = client
        self._telling = Telling(told)
        self._reporter = reporter
        self._subscriptions: list[Subscription] = []
        self._task: asyncio.Task[None] | None = None
        self._pods: _Pods | None = None
        self._looks = False
        self.synced = asyncio.Event()

    def objects(self, source: Source, namespaces: Sequence[str], field_selector: str = "") -> None:
        """Tells of services, ingresses or nodes."""
        for namespace in (namespaces if source.resource.namespaced else ()) or ("",):

            def put(obj: Object) -> None:
                owner = f"{source.type} {key_of(obj)}"
                self._telling.set(owner, source.make(self._name, obj, self.synced.is_set()))

            def gone(obj: Object) -> None:
                self._telling.set(f"{source.type} {key_of(obj)}", ())

            self._subscribe(source.resource, namespace, field_selector, source.fields, put, gone)

    def all_pods(self, rules: Rules, field_selector: str, place: Place) -> None:
        """Tells of pods."""
        pods = self._pods = _Pods(self._name, rules, self._telling, self.synced.is_set, place)
        self._looks = place.folders is not None
        for namespace in place.namespaces or ("",):
            self._subscribe(PODS, namespace, field_selector, FIELDS, pods.put, pods.gone)

    def _subscribe(self, resource: Any, namespace: str, selector: str, fields: Any, put: Any, gone: Any) -> None:
        self._subscriptions.append(
            subscribe(
                self._client,
                resource,
                namespace=namespace,
                field_selector=selector,
                fields=fields,
                on_add=put,
                on_update=lambda _, new: put(new),
                on_delete=gone,
                report=self._reporter(f"{resource} {namespace}"),
            )
        )

    def start(self) -> None:
        """Waits for the first lists, then looks at the folders."""
        self._task = asyncio.create_task(self._follow(), name=f"{self._name} endpoints")

    async def _follow(self) -> None:
        heard = asyncio.gather(*[subscription.synced.wait() for subscription in self._subscriptions])
        try:
            if self._looks:
                await asyncio.wait({heard}, timeout=PATIENCE)
                while not heard.done():
                    self._look()
                    await asyncio.wait({heard}, timeout=LOOK_SECONDS)
            await heard
        finally:
            heard.cancel()
        self._look()
        self.synced.set()
        while self._looks:
            await asyncio.sleep(LOOK_SECONDS)
            self._look()

    def _look(self) -> None:
        if self._pods is not None:
            self._pods.look()

    async def stop(self) -> None:
        """Nothing is told from now on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.stop()
        if self._pods is not None:
            self._pods.end()


class _Pods:
    """The pods that the API tells of, and those of which there is a folder only."""

    def __init__(self, name: str, rules: Rules, telling: Telling, synced: Callable[[], bool], place: Place) -> None:
        self._name = name
        self._rules = rules
        self._telling = telling
        self._synced = synced
        self._place = place
        self._there = place.folders is not None and place.folders.look()
        self._waiting: dict[str, Object] = {}
        """By key, the pods whose folders are not seen: they are on other nodes, or about to begin."""
        self._keys: dict[str, str] = {}
        """The uid of a folder -> the key of the pod that the API tells of."""
        self._alone: dict[str, bool] = {}
        """The uid of a folder without a pod -> whether it came after the first look."""
        self._told: dict[str, frozenset[str]] = {}
        """The uid of a folder whose pod is gone -> the containers that were told of."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def put(self, obj: Object) -> None:
        """A pod that came or changed."""
        key, uid = key_of(obj), folder_uid(obj)
        self._keys[uid] = key
        if self._alone.pop(uid, None) is not None:
            self._telling.hand_over(_alone(uid), key)
        if self._elsewhere(uid):
            self._waiting[key] = obj
            self._telling.set(key, ())
        else:
            self._waiting.pop(key, None)
            self._tell(key, obj)

    def gone(self, obj: Object) -> None:
        """A pod that is gone. Its folder stays for a while, and may hold what a container wrote that was never seen to run."""
        key, uid = key_of(obj), folder_uid(obj)
        if self._place.folders is not None and uid in self._place.folders.found:
            self._told[uid] = frozenset(str(each.details.get("container_name")) for each in self._telling.of(key))
        self._waiting.pop(key, None)
        if self._keys.get(uid) == key:
            del self._keys[uid]
        self._cancel(key)
        self._telling.set(key, ())

    def _elsewhere(self, uid: str) -> bool:
        folders = self._place.folders
        if folders is None or self._place.own or not self._there:
            return False
        return uid not in folders.found and not (folders.look() and uid in folders.found)

    def _tell(self, key: str, obj: Object) -> None:
        self._cancel(key)
        found, until = endpoints(self._name, obj, self._rules, self._synced(), time.time())
        self._telling.set(key, found)
        if until != float("inf"):
            wait = max(until - time.time(), 0.0) + 0.001
            self._timers[key] = asyncio.get_running_loop().call_later(wait, self._tell, key, obj)

    def _cancel(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def end(self) -> None:
        """No timer fires any more."""
        for key in list(self._timers):
            self._cancel(key)

    def look(self) -> None:
        """One look at the folders."""
        folders = self._place.folders
        if folders is None:
            return
        self._there = folders.look()
        for key, obj in list(self._waiting.items()):
            if not self._elsewhere(folder_uid(obj)):
                del self._waiting[key]
                self._tell(key, obj)
        for uid in [uid for uid in self._told if uid not in folders.found]:
            del self._told[uid]
        for uid in [uid for uid in self._alone if uid not in folders.found]:
            del self._alone[uid]
            self._telling.set(_alone(uid), ())
        for uid, folder in folders.found.items():
            if uid in self._keys or (self._place.namespaces and folder.namespace not in self._place.namespaces):
                continue
            if uid not in self._alone:
                self._alone[uid] = self._synced()
                if self._synced() and uid not in self._told:
                    continue  # the API tells of most of them in a moment
            found = [each for each in folders.containers(folder).items() if each[0] not in self._told.get(uid, ())]
            fresh, over = self._alone[uid], self._synced()
            self._telling.set(_alone(uid), [on_disk(self._name, folder, name, since, fresh, over) for name, since in found])


def _alone(uid: str) -> str:
    """What a folder without a pod is told under; no key of a pod begins so."""
    return f"/{uid}"
