"""For every type of receiver how to make it bring in data: a file, a call, a page or an API server that is really there.

A driver is an async context that has what the receiver reads from. It gives the options, and `produce` makes new data. A new receiver
gets an entry in `DRIVERS`, and the laws of the ledger hold for it or a test fails.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import grpc
import pytest
from aiohttp import web

from kofagent.component.checkpoints import MemoryStore
from kofagent.component.observing import Endpoint
from kofagent.component.protocols import Receiver
from kofagent.kubernetes.resources import CORE_EVENTS, NODES, PODS
from kofagent.telemetry.signal import Signal
from tests.receivers.kubeletstats.support import FakeKubelet
from tests.receivers.receiver_creator.support import Observed
from tests.support.fake_kube import FakeKube, pod
from tests.support.journal_files import JournalWriter
from tests.support.otlp import log_request
from tests.support.servers import find


class Driver:
    """What a receiver reads from. `signal` is what comes of it."""

    signal = Signal.LOGS
    keeps = False
    """What nobody took when the receiver stopped is still where it came from, so it is not lost and not counted."""
    answers = False
    """Clients wait for an answer and keep what nobody took."""
    rebuilds = False
    """After a refusal it offers another batch, with what is true then."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.stack = AsyncExitStack()
        self.told = 0
        """Items of which a client was told that nobody took them."""

    patience = ""
    """The seconds that the receiver's `stop` waits for what is under way, as module and name."""

    async def __aenter__(self) -> Driver:
        if self.patience:
            self.monkeypatch.setattr(f"kofagent.receivers.{self.patience}", 0.05)
        await self.prepare()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stack.aclose()

    async def prepare(self) -> None:
        """Starts what has to be there before the receiver."""

    def extensions(self) -> dict[str, Any]:
        """Running extensions by their id."""
        return {}

    def options(self) -> dict[str, Any]:
        return {}

    async def produce(self, receiver: Receiver[Any]) -> None:
        """Makes the receiver bring in one batch or more. Those that collect do so anyway."""

    async def finish(self) -> None:
        """Waits for clients that wait for an answer."""


class File(Driver):
    """Lines appended to a file; no storage, so what was read and not delivered is lost at the stop."""

    patience = "filelog.receiver._STOP_S"

    def options(self) -> dict[str, Any]:
        return {"include": [str(self.folder / "*.log")], "start_at": "beginning", "poll_interval": "10ms"}

    async def produce(self, receiver: Receiver[Any]) -> None:
        with (self.folder / "a.log").open("a") as file:
            file.write("one\ntwo\n")


class PatientFile(File):
    """The same, and a refused batch is offered again."""

    def options(self) -> dict[str, Any]:
        retry = {"enabled": True, "initial_interval": "10ms", "max_elapsed_time": "0s"}
        return {**super().options(), "retry_on_failure": retry}


class StoredFile(PatientFile):
    """The same with a storage: what nobody took is read again after the next start."""

    keeps = True

    def extensions(self) -> dict[str, Any]:
        return {"file_storage": Store()}

    def options(self) -> dict[str, Any]:
        return {**super().options(), "storage": "file_storage"}


class Store(MemoryStore):
    """A storage extension with one store."""

    async def open_store(self, kind: str, id: str, name: str = "") -> Store:
        return self


class Journal(Driver):
    """Entries appended to a file of a journal; no storage, so what was read and not delivered is lost at the stop."""

    patience = "journald.receiver._STOP_S"

    async def prepare(self) -> None:
        self.monkeypatch.setattr("kofagent.receivers.journald.receiver.POLL_S", 0.01)
        self.writer = JournalWriter(self.folder / "system.journal")
        self.stack.callback(self.writer.close)

    def options(self) -> dict[str, Any]:
        return {"directory": str(self.folder), "start_at": "beginning", "retry_on_failure": {"enabled": False}}

    async def produce(self, receiver: Receiver[Any]) -> None:
        for message in ("one", "two"):
            self.writer.append(f"MESSAGE={message}", "PRIORITY=6")


class StoredJournal(Journal):
    """The same with a storage, and a refused batch is offered again: what nobody took is read again after the next start."""

    keeps = True

    def extensions(self) -> dict[str, Any]:
        return {"file_storage": Store()}

    def options(self) -> dict[str, Any]:
        retry = {"initial_interval": "10ms"}
        return {**super().options(), "retry_on_failure": retry, "storage": "file_storage"}


class OtlpHttp(Driver):
    """A client that posts one request and hears the answer."""

    answers = True

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, monkeypatch)
        self.clients: list[asyncio.Task[None]] = []

    def options(self) -> dict[str, Any]:
        return {"protocols": {"http": {"endpoint": "127.0.0.1:0"}}}

    async def produce(self, receiver: Receiver[Any]) -> None:
        self.clients.append(asyncio.create_task(self.call(receiver.ports)))  # type: ignore[attr-defined]

    async def call(self, ports: dict[str, int]) -> None:
        url = f"http://127.0.0.1:{ports['http']}/v1/logs"
        async with aiohttp.ClientSession() as session:
            try:
                headers = {"Content-Type": "application/x-protobuf"}
                async with session.post(url, data=log_request("a", "b"), headers=headers) as answer:
                    refused = answer.status == 503
            except aiohttp.ClientError:
                refused = True
            self.told += 2 * refused

    async def finish(self) -> None:
        await asyncio.gather(*self.clients)


class OtlpGrpc(OtlpHttp):
    """The same over gRPC."""

    def options(self) -> dict[str, Any]:
        return {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}

    async def call(self, ports: dict[str, int]) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
            try:
                export = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
                await export(log_request("a", "b"), timeout=20)
            except grpc.aio.AioRpcError as error:
                self.told += 2 * (error.code() is not grpc.StatusCode.INVALID_ARGUMENT)


class JaegerHttp(OtlpHttp):
    """A client that posts a batch of one span in Thrift."""

    signal = Signal.TRACES
    url = "http://127.0.0.1:{thrift_http}/api/traces"
    headers: ClassVar = {"Content-Type": "application/x-thrift"}
    body = b"\x0c\x00\x01\x00" + b"\x0f\x00\x02\x0c\x00\x00\x00\x01\x0a\x00\x01" + b"\1" * 8 + b"\0\0"

    def options(self) -> dict[str, Any]:
        return {"protocols": {"thrift_http": {"endpoint": "127.0.0.1:0"}}}

    async def call(self, ports: dict[str, int]) -> None:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.post(self.url.format_map(ports), data=self.body, headers=self.headers) as answer:
                    refused = answer.status in (500, 503)
            except aiohttp.ClientError:
                refused = True
            self.told += refused


class JaegerGrpc(OtlpHttp):
    """The same over gRPC, with model.proto."""

    signal = Signal.TRACES

    def options(self) -> dict[str, Any]:
        return {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}

    async def call(self, ports: dict[str, int]) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}") as channel:
            try:
                post = channel.unary_unary("/jaeger.api_v2.CollectorService/PostSpans")
                await post(b"\x0a\x02\x0a\x00", timeout=20)
            except grpc.aio.AioRpcError as error:
                self.told += error.code() is not grpc.StatusCode.INVALID_ARGUMENT


class JaegerUdp(Driver):
    """Datagrams of a client, which hears nothing."""

    signal = Signal.TRACES
    patience = "jaeger.udp._STOP_SECONDS"

    def options(self) -> dict[str, Any]:
        return {"protocols": {"thrift_compact": {"endpoint": "127.0.0.1:0"}}}

    async def produce(self, receiver: Receiver[Any]) -> None:
        call = b"\x82\x81\x00\x09emitBatch" + b"\x1c\x1c\x00\x19\x1c\x16\x02\x00\x00\x00"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(call, ("127.0.0.1", receiver.ports["thrift_compact"]))  # type: ignore[attr-defined]


class Zipkin(JaegerHttp):
    """A reporter that posts one span."""

    url = "http://127.0.0.1:{http}/api/v2/spans"
    headers: ClassVar = {"Content-Type": "application/json"}
    body = b'[{"traceId": "1", "id": "2"}]'

    def options(self) -> dict[str, Any]:
        return {"endpoint": "127.0.0.1:0"}


class Page(Driver):
    """A page that is scraped."""

    patience = "prometheus.receiver.STOP_SECONDS"
    signal = Signal.METRICS

    async def prepare(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(body=b"a 1\nb 2\n", headers={"Content-Type": "text/plain"})

        app = web.Application()
        app.router.add_get("/metrics", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.target = f"127.0.0.1:{runner.addresses[0][1]}"

    def options(self) -> dict[str, Any]:
        job = {"job_name": "j", "scrape_interval": "50ms", "scrape_timeout": "50ms", "static_configs": [{"targets": [self.target]}]}
        return {"config": {"scrape_configs": [job]}}


class Checked(Page):
    """A server that is asked whether it answers."""

    patience = ""

    def options(self) -> dict[str, Any]:
        targets = [{"endpoint": f"http://{self.target}/metrics"}]
        return {"collection_interval": "20ms", "initial_delay": "0s", "targets": targets}


class Host(Driver):
    """This machine."""

    signal = Signal.METRICS

    def options(self) -> dict[str, Any]:
        return {"collection_interval": "20ms", "initial_delay": "0s", "scrapers": {"load": {}, "memory": {}}}


class Kubelet(Driver):
    """A kubelet."""

    signal = Signal.METRICS

    async def prepare(self) -> None:
        self.kubelet = await self.stack.enter_async_context(FakeKubelet())

    def options(self) -> dict[str, Any]:
        return {
            "collection_interval": "20ms",
            "initial_delay": "0s",
            "auth_type": "none",
            "endpoint": self.kubelet.endpoint,
        }


class Database(Driver):
    """A PostgreSQL server."""

    signal = Signal.METRICS

    async def prepare(self) -> None:
        if find("postgres") is None:
            pytest.skip("postgres is not installed")
        from tests.support.postgres import shared

        self.endpoint = shared().endpoint

    def options(self) -> dict[str, Any]:
        return {
            "collection_interval": "20ms",
            "initial_delay": "0s",
            "endpoint": self.endpoint,
            "username": "kof",
            "password": "s3cret-of-the-database",
            "tls": {"insecure": True},
        }


class Cluster(Driver):
    """An API server."""

    signal = Signal.METRICS

    async def prepare(self) -> None:
        self.kube = await self.stack.enter_async_context(FakeKube())
        self.kube.use(self.monkeypatch, self.folder)
        self.made = 0
        self.kube.put(NODES, {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        self.put()

    def put(self) -> None:
        """One more pod."""
        self.made += 1
        self.kube.put(PODS, pod("shop", f"web-{self.made}", uid=f"uid-{self.made}"))

    async def produce(self, receiver: Receiver[Any]) -> None:
        self.put()

    def options(self) -> dict[str, Any]:
        return {"collection_interval": "20ms"}


class Entities(Cluster):
    """The same, as entity events. What waits at the stop is dropped: after the next start all entities are sent again."""

    signal = Signal.LOGS
    rebuilds = True


class Pulled(Cluster):
    """Objects that are listed. What nobody took is listed again."""

    signal = Signal.LOGS
    keeps = True

    def options(self) -> dict[str, Any]:
        return {"objects": [{"name": "pods", "mode": "pull", "interval": "50ms"}]}


class Watched(Cluster):
    """Objects that are watched."""

    patience = "k8sobjects.receiver.STOP_SECONDS"
    signal = Signal.LOGS
    keeps = True

    def options(self) -> dict[str, Any]:
        return {"objects": [{"name": "pods", "mode": "watch"}], "include_initial_state": True}


class Events(Cluster):
    """Events that happen now."""

    patience = "k8s_events.receiver.STOP_SECONDS"
    signal = Signal.LOGS
    keeps = True

    def put(self) -> None:
        self.made += 1
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5))
        event = {
            "metadata": {"name": f"e{self.made}", "namespace": "shop"},
            "type": "Normal",
            "reason": "Started",
            "message": json.dumps(self.made),
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web-0"},
        }
        self.kube.put(CORE_EVENTS, event)

    def options(self) -> dict[str, Any]:
        return {}


class Created(PatientFile):
    """Lines of a file for which an endpoint is told."""

    def extensions(self) -> dict[str, Any]:
        self.observer = Observed()
        return {"host_observer": self.observer}

    def options(self) -> dict[str, Any]:
        block = {"rule": 'type == "hostport"', "config": super().options()}
        return {"watch_observers": ["host_observer"], "receivers": {"filelog": block}}

    async def produce(self, receiver: Receiver[Any]) -> None:
        self.observer.set(Endpoint("host_observer/1", "hostport", "127.0.0.1:1", {"port": 1}))
        await super().produce(receiver)


DRIVERS: dict[str, list[Callable[[Path, pytest.MonkeyPatch], Driver]]] = {
    "otlp": [OtlpHttp, OtlpGrpc],
    "filelog": [File, PatientFile, StoredFile],
    "journald": [Journal, StoredJournal],
    "prometheus": [Page],
    "hostmetrics": [Host],
    "kubeletstats": [Kubelet],
    "httpcheck": [Checked],
    "postgresql": [Database],
    "k8s_cluster": [Cluster, Entities],
    "k8s_events": [Events],
    "k8sobjects": [Pulled, Watched],
    "receiver_creator": [Created],
    "jaeger": [JaegerHttp, JaegerGrpc, JaegerUdp],
    "zipkin": [Zipkin],
    "nop": [],
}
"""By type. `nop` never brings in anything."""
