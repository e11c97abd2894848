"""A scriptable API server: resources in memory, pages, selectors, watches with history, bookmarks, and every way of failing.

async with FakeKube() as kube:
    kube.use(monkeypatch, tmp_path)          # what shared(host, options) finds: a kubeconfig with server and token
    kube.put(PODS, pod("default", "web-0", node="n1", ip="10.0.0.1"))
    ...
    kube.drop_watches()                      # connections broken
    kube.compact()                           # watches from before now get 410
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kofagent.component.protocols import Kubeconfig
from kofagent.kubernetes import resources
from kofagent.kubernetes.access import Access
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.resources import Resource
from tests.support.components import FakeHost

Object = dict[str, Any]
_PATH = re.compile(
    r"^/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<ns>[^/]+)(?=/[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?$"
)


class TokenAccess(Access):
    """Access with a bearer token that a test can change; `fresh` is what reading it again after a 401 gives."""

    def __init__(self, server: str, token: str, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self.token = token
        self.fresh = token

    async def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def rejected(self) -> bool:
        changed = self.fresh != self.token
        self.token = self.fresh
        return changed


class _Watch:
    def __init__(self, response: web.StreamResponse, request: web.Request) -> None:
        self.response = response
        self.request = request
        self.wake = asyncio.Event()
        self.extra: list[Object] = []
        self.end = False


class FakeKube:
    """The server. `token` empty: no check. `page_cap` makes pages smaller than asked for."""

    def __init__(self, token: str = "secret-token", ssl_context: Any = None) -> None:
        self.tokens = {token} if token else set()
        self.token = token
        self.version = 100
        self.oldest = 0
        self.objects: dict[tuple[str, str], dict[tuple[str, str], Object]] = {}
        self.history: list[tuple[int, str, tuple[str, str], Object | None, Object]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.accepts: list[str] = []
        self.forbidden: set[tuple[str, str]] = set()
        """(verb, plural) that get 403; verb is list, watch or get."""
        self.absent: set[str] = set()
        """Plurals that are 404, as of a missing CRD."""
        self.failures: list[tuple[str, int]] = []
        """(substring of the path and query, status), each used once, in order of the list."""
        self.expire_continue = False
        """The next `continue` token is answered with 410, once."""
        self.silent = False
        """Watches are opened and nothing is sent on them."""
        self.bookmark_every = 0.0
        self.page_cap = 0
        self.routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        """Own handlers by exact path, for /version, proxied kubelets and the like."""
        self.groups: dict[str, Any] = {}
        """Discovery documents by path (`/api/v1`, `/apis`, `/apis/apps`, `/apis/apps/v1`) in place of those of the known resources."""
        self._watches: list[_Watch] = []
        self._ssl = ssl_context
        self._runner: web.AppRunner | None = None
        self.port = 0

    # life

    async def __aenter__(self) -> FakeKube:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listens; the same port again after `stop`."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2, handler_cancellation=True)
        await self._runner.setup()
        for attempt in range(100):
            try:
                await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._ssl, reuse_address=True).start()
                break
            except OSError:  # between stop and start somebody's outgoing connection may have been given the port
                if attempt == 99:
                    raise
                await asyncio.sleep(0.1)
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.end_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}"

    def access(self) -> TokenAccess:
        return TokenAccess(self.url, self.token)

    def client(self) -> ApiClient:
        """A client of it, not started."""
        return ApiClient(self.access())

    def use(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
        """Makes it what `shared(host, options)` finds, whatever the auth_type (serviceAccount or kubeConfig)."""
        path = folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "fake",
                    "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
                    "users": [{"name": "fake", "user": {"token": self.token}}],
                    "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
                }
            )
        )
        monkeypatch.setattr(FakeHost, "kubeconfig", Kubeconfig(str(path)))
        return path

    # content

    def put(self, resource: Resource, obj: Object, *, copied: bool = True) -> Object:
        """Adds or changes an object: gives it uid (kept over updates), resourceVersion and creationTimestamp. Returns what is stored."""
        if copied:
            obj = json.loads(json.dumps(obj))  # a third of what deepcopy takes
        metadata = obj.setdefault("metadata", {})
        key = (metadata.get("namespace", ""), metadata["name"])
        group = (resource.group, resource.plural)
        old = self.objects.setdefault(group, {}).get(key)
        self.version += 1
        obj.setdefault("apiVersion", resource.api_version)
        obj.setdefault("kind", resource.kind)
        metadata.setdefault("uid", old["metadata"]["uid"] if old else f"uid-{self.version}")
        metadata.setdefault("creationTimestamp", "2024-05-01T10:00:00Z")
        metadata["resourceVersion"] = str(self.version)
        self.objects[group][key] = obj
        self._record("MODIFIED" if old else "ADDED", group, old, obj)
        return obj

    def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        group = (resource.group, resource.plural)
        old = self.objects[group].pop((namespace, name))
        self.version += 1
        gone = json.loads(json.dumps(old))
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._record("DELETED", group, old, gone)

    def items(self, resource: Resource) -> list[Object]:
        return list(self.objects.get((resource.group, resource.plural), {}).values())

    def _record(self, kind: str, group: tuple[str, str], old: Object | None, new: Object) -> None:
        self.history.append((self.version, kind, group, old, new))
        for watch in self._watches:
            watch.wake.set()

    # faults

    def compact(self, break_watches: bool = True) -> None:
        """Forgets the history: watches and `continue` tokens from before now get 410. Open watches are ended."""
        self.version += 1
        self.oldest = self.version
        self.history.clear()
        if break_watches:
            self.drop_watches()

    def drop_watches(self) -> None:
        """Breaks the connection of every watch."""
        for watch in self._watches:
            if watch.request.transport is not None:
                watch.request.transport.abort()

    def end_watches(self) -> None:
        """Ends every watch cleanly, as at its timeout."""
        for watch in self._watches:
            watch.end = True
            watch.wake.set()

    def gone_in_stream(self) -> None:
        """An ERROR event with 410 on every watch; their versions are forgotten."""
        self.version += 1
        self.oldest = self.version
        self.history.clear()
        for watch in self._watches:
            watch.extra.append({"type": "ERROR", "object": _status(410, "Expired", "too old resource version")})
            watch.end = True
            watch.wake.set()

    def bookmark(self) -> None:
        """A bookmark on every watch."""
        for watch in self._watches:
            watch.extra.append(
                {
                    "type": "BOOKMARK",
                    "object": {"kind": "Bookmark", "metadata": {"resourceVersion": str(self.version), "creationTimestamp": None}},
                }
            )
            watch.wake.set()

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def watches(self, plural: str) -> int:
        """How many watches of a resource are open."""
        return sum(w.request.path.split("/")[-1] == plural for w in self._watches)

    # serving

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.requests.append((request.method, request.path, query))
        self.accepts.append(request.headers.get("Accept", ""))
        if self.tokens and request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return _answer(401, "Unauthorized", "Unauthorized")
        for at, (part, status) in enumerate(self.failures):
            if part in request.path_qs:
                del self.failures[at]
                return _answer(status, {410: "Expired", 500: "InternalError"}.get(status, "Failure"), "as the test asked")
        if request.path in self.routes:
            return await self.routes[request.path](request)
        if request.path in self.groups:
            return web.json_response(self.groups[request.path])
        document = self._discovery(request.path)
        if document is not None:
            return web.json_response(document)
        match = _PATH.match(request.path)
        if match is None or match["plural"] in self.absent:
            return _answer(404, "NotFound", "the server could not find the requested resource")
        group = (match["group"] or "", match["plural"])
        watch = query.get("watch") in ("1", "true")
        verb = {"POST": "create", "PUT": "update"}.get(request.method) or ("get" if match["name"] else "watch" if watch else "list")
        if (verb, group[1]) in self.forbidden:
            return _answer(
                403,
                "Forbidden",
                f'{group[1]} is forbidden: User "system:serviceaccount:kof:agent" cannot {verb} resource '
                f'"{group[1]}" in API group "{group[0]}" at the cluster scope',
            )
        if request.method in ("POST", "PUT"):
            return self._write(group, match["ns"] or "", match["name"], await request.json())
        if match["name"]:
            found = self.objects.get(group, {}).get((match["ns"] or "", match["name"]))
            return web.json_response(found) if found else _answer(404, "NotFound", f"{group[1]} {match['name']!r} not found")
        wanted = _selector(match["ns"], query)
        if watch:
            return await self._watch(request, group, query, wanted)
        return self._list(group, query, wanted)

    def _discovery(self, path: str) -> Object | None:
        """What the API server says it serves: the constants of `resources.py` without `absent`."""
        known = [r for r in vars(resources).values() if isinstance(r, Resource) and r.plural not in self.absent]
        groups: dict[str, list[str]] = {}
        for resource in known:
            if resource.group and resource.version not in groups.setdefault(resource.group, []):
                groups[resource.group].append(resource.version)
        entries = {
            name: {
                "name": name,
                "versions": [{"groupVersion": f"{name}/{v}", "version": v} for v in versions],
                "preferredVersion": {"groupVersion": f"{name}/{versions[0]}", "version": versions[0]},
            }
            for name, versions in groups.items()
        }
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(entries.values())}
        parts = path.split("/")[1:]
        if parts[0] == "apis" and len(parts) == 2 and parts[1] in entries:
            return {"kind": "APIGroup", "apiVersion": "v1", **entries[parts[1]]}
        wanted = ("", parts[1]) if parts[0] == "api" and len(parts) == 2 else tuple(parts[1:]) if len(parts) == 3 else None
        served = [r for r in known if (r.group, r.version) == wanted]
        if not served:
            return None
        return {
            "kind": "APIResourceList",
            "groupVersion": served[0].api_version,
            "resources": [
                {"name": r.plural, "kind": r.kind, "namespaced": r.namespaced, "verbs": ["get", "list", "watch"]} for r in served
            ],
        }

    def _write(self, group: tuple[str, str], namespace: str, name: str | None, obj: Object) -> web.Response:
        """Creates, or replaces what has not changed since it was read."""
        metadata = obj["metadata"]
        old = self.objects.get(group, {}).get((namespace, metadata["name"]))
        if name is None and old is not None:
            return _answer(409, "AlreadyExists", "it exists")
        if name is not None and (old is None or old["metadata"]["resourceVersion"] != metadata.get("resourceVersion")):
            return _answer(409, "Conflict", "the object has been modified")
        self.put(Resource(group[0], "v1", group[1]), obj)
        return web.json_response(obj)

    def _list(self, group: tuple[str, str], query: dict[str, str], wanted: Callable[[Object], bool]) -> web.Response:
        at, version = 0, self.version
        if "continue" in query:
            version, at = map(int, query["continue"].split(":"))
            if self.expire_continue or version < self.oldest:
                self.expire_continue = False
                return _answer(410, "Expired", "The provided continue parameter is too old")
            items = self._as_of(group, version)
        else:
            items = self.objects.get(group, {})
        found = [items[k] for k in sorted(items) if wanted(items[k])]
        limit = int(query.get("limit", 0)) or len(found) or 1
        if self.page_cap:
            limit = min(limit, self.page_cap)
        page = found[at : at + limit]
        metadata = {"resourceVersion": str(version)}
        if at + limit < len(found):
            metadata["continue"] = f"{version}:{at + limit}"
        return web.json_response(
            {
                "kind": "List",
                "apiVersion": "v1",
                "metadata": metadata,
                "items": [{k: v for k, v in o.items() if k not in ("kind", "apiVersion")} for o in page],
            }
        )

    def _as_of(self, group: tuple[str, str], version: int) -> dict[tuple[str, str], Object]:
        """A list is consistent: its later pages show what was there when it began."""
        items = dict(self.objects.get(group, {}))
        for changed, _, where, old, new in reversed(self.history):
            if changed <= version:
                break
            if where == group:
                key = (new["metadata"].get("namespace", ""), new["metadata"]["name"])
                if old is None:
                    items.pop(key, None)
                else:
                    items[key] = old
        return items

    async def _watch(
        self, request: web.Request, group: tuple[str, str], query: dict[str, str], wanted: Callable[[Object], bool]
    ) -> web.StreamResponse:
        version = int(query.get("resourceVersion") or self.version)
        if version < self.oldest:
            return _answer(410, "Expired", f"too old resource version: {version} ({self.oldest})")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        watch = _Watch(response, request)
        self._watches.append(watch)
        deadline = asyncio.get_running_loop().time() + int(query.get("timeoutSeconds", 300))
        try:
            while asyncio.get_running_loop().time() < deadline:
                watch.wake.clear()
                if not self.silent:
                    if version < self.oldest - 1:
                        watch.extra = [{"type": "ERROR", "object": _status(410, "Expired", "too old resource version")}]
                        watch.end = True
                    while waiting := [h for h in self.history if h[0] > version]:
                        version = waiting[-1][0]
                        for _, kind, where, old, new in waiting:
                            event = _seen_through(wanted, kind, old, new) if where == group else None
                            if event is not None:
                                await response.write(json.dumps(event).encode() + b"\n")
                    while watch.extra:
                        await response.write(json.dumps(watch.extra.pop(0)).encode() + b"\n")
                if watch.end:
                    break
                try:
                    async with asyncio.timeout(min(self.bookmark_every or 60, deadline - asyncio.get_running_loop().time())):
                        await watch.wake.wait()
                except TimeoutError:
                    if self.bookmark_every:
                        self.bookmark()
        except ConnectionError:
            pass
        finally:
            self._watches.remove(watch)
        return response


def _seen_through(wanted: Callable[[Object], bool], kind: str, old: Object | None, new: Object) -> Object | None:
    """An event as a watch with a selector sees it: an object that stops to match is deleted for it."""
    before, after = old is not None and wanted(old), kind != "DELETED" and wanted(new)
    if before and after:
        return {"type": "MODIFIED", "object": new}
    if after:
        return {"type": "ADDED", "object": new}
    return {"type": "DELETED", "object": new} if before else None


def _selector(namespace: str | None, query: dict[str, str]) -> Callable[[Object], bool]:
    labels = [p for p in re.split(r",(?![^(]*\))", query.get("labelSelector", "")) if p]
    fields = [p for p in query.get("fieldSelector", "").split(",") if p]

    def matches(obj: Object) -> bool:
        if namespace and obj["metadata"].get("namespace") != namespace:
            return False
        if not labels and not fields:
            return True
        own = obj["metadata"].get("labels") or {}
        return all(_label(own, p) for p in labels) and all(_field(obj, p) for p in fields)

    return matches


def _label(labels: dict[str, str], rule: str) -> bool:
    rule = rule.strip()
    if found := re.fullmatch(r"(\S+) (in|notin) \(([^)]*)\)", rule):
        inside = labels.get(found[1]) in [v.strip() for v in found[3].split(",")]
        return inside if found[2] == "in" else not inside
    if "!=" in rule:
        key, value = rule.split("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in rule:
        key, value = re.split("==?", rule, maxsplit=1)
        return labels.get(key.strip()) == value.strip()
    return rule[1:] not in labels if rule.startswith("!") else rule in labels


def _field(obj: Object, rule: str) -> bool:
    path, _, value = rule.replace("==", "=").partition("=")
    negated = path.endswith("!")
    found: Any = obj
    for step in path.rstrip("!").split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return (str(found or "") == value) != negated


def _status(code: int, reason: str, message: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }


def _answer(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(_status(code, reason, message), status=code)


def pod(
    namespace: str,
    name: str,
    *,
    node: str = "n1",
    ip: str = "10.0.0.1",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    owner: tuple[str, str, str] | None = None,
    phase: str = "Running",
    containers: list[Object] | None = None,
    uid: str | None = None,
) -> Object:
    """A running pod. `owner` is (kind, name, uid); `containers` are those of spec, default one `app` with port 8080."""
    spec = (
        containers
        if containers is not None
        else [
            {"name": "app", "image": "registry.test/app:1.0", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}
        ]
    )
    metadata: Object = {"name": name, "namespace": namespace, "labels": labels or {}, "annotations": annotations or {}}
    if uid:
        metadata["uid"] = uid
    if owner:
        metadata["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": owner[0], "name": owner[1], "uid": owner[2], "controller": True}
        ]
    return {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": spec},
        "status": {
            "phase": phase,
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "hostIP": "192.168.0.1",
            "startTime": "2024-05-01T10:00:01Z",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {
                    "name": c["name"],
                    "image": c.get("image", ""),
                    "imageID": "registry.test/app@sha256:" + "a" * 64,
                    "ready": True,
                    "restartCount": 0,
                    "containerID": f"containerd://{abs(hash((namespace, name, c['name']))):064x}",
                    "state": {"running": {}},
                }
                for c in spec
            ],
        },
    }
