"""A remote write backend for tests: Google's protobuf as the oracle, and a server that can be told to misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import snappy
from aiohttp import web
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TYPES = {"double": 1, "int64": 3, "uint64": 4, "int32": 5, "string": 9, "uint32": 13, "sint32": 17, "sint64": 18}
_MESSAGES = {
    "WriteRequest": ["rep TimeSeries timeseries 1", "rep MetricMetadata metadata 3"],
    "MetricMetadata": ["opt int32 type 1", "opt string metric_family_name 2", "opt string help 4", "opt string unit 5"],
    "TimeSeries": ["rep Label labels 1", "rep Sample samples 2", "rep Exemplar exemplars 3", "rep Histogram histograms 4"],
    "Label": ["opt string name 1", "opt string value 2"],
    "Sample": ["opt double value 1", "opt int64 timestamp 2"],
    "Exemplar": ["rep Label labels 1", "opt double value 2", "opt int64 timestamp 3"],
    "Histogram": [
        "opt uint64 count_int 1",
        "opt double count_float 2",
        "opt double sum 3",
        "opt sint32 schema 4",
        "opt double zero_threshold 5",
        "opt uint64 zero_count_int 6",
        "opt double zero_count_float 7",
        "rep BucketSpan negative_spans 8",
        "rep sint64 negative_deltas 9",
        "rep double negative_counts 10",
        "rep BucketSpan positive_spans 11",
        "rep sint64 positive_deltas 12",
        "rep double positive_counts 13",
        "opt int32 reset_hint 14",
        "opt int64 timestamp 15",
        "rep double custom_values 16",
    ],
    "BucketSpan": ["opt sint32 offset 1", "opt uint32 length 2"],
}


def _build() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="tests/prometheus.proto", package="prometheus", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields:
            rule, kind, field_name, number = text.split()
            field = message.field.add(name=field_name, number=int(number), label=3 if rule == "rep" else 1)
            if kind in _TYPES:
                field.type = _TYPES[kind]
            else:
                field.type, field.type_name = 11, f".prometheus.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prometheus.WriteRequest"))


WriteRequest: Any = _build()
STALE_HEX = "7ff0000000000002"


def series(request: Any) -> list[tuple[dict[str, str], list[tuple[float, int]]]]:
    """Labels and samples of each TimeSeries; checks what the protocol demands of labels."""
    out = []
    for one in request.timeseries:
        names = [label.name for label in one.labels]
        assert names == sorted(names, key=str.encode) and len(set(names)) == len(names), names
        assert all(label.value for label in one.labels), one
        out.append(({label.name: label.value for label in one.labels}, [(s.value, s.timestamp) for s in one.samples]))
    return out


def is_stale(value: float) -> bool:
    """True for the bits of Prometheus' stale marker."""
    return struct.pack(">d", value).hex() == STALE_HEX


class Backend:
    """A server on loopback. `script` holds what the next requests get, one each, then 204: a status, (status, headers,
    body), "reset" (the connection is broken), "cut" (broken after the data was stored) or "stall" (no answer until `release`)."""

    def __init__(self, script: list[Any] | None = None) -> None:
        self.script = list(script or [])
        self.largest = 1 << 30
        """A body of more bytes, uncompressed, gets 413."""
        self.requests: list[Any] = []
        """Decoded requests that were answered 2xx (or cut), in order."""
        self.seen: list[web.BaseRequest] = []
        self.release = asyncio.Event()
        self.under_way = 0
        self.most_under_way = 0
        self._runner: web.ServerRunner | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Backend:
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/api/v1/write"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(request)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            what = self.script.pop(0) if self.script else 204
            if len(snappy.decompress(body)) > self.largest:
                what = (413, {}, "too large")
            if what == "stall":
                await self.release.wait()
                what = 204
            status, headers, text = what if isinstance(what, tuple) else (what, {}, "")
            if status in ("reset", "cut") or 200 <= status < 300:
                assert request.headers["Content-Encoding"] == "snappy"
                if status != "reset":
                    self.requests.append(WriteRequest.FromString(snappy.decompress(body)))
                if status in ("reset", "cut"):
                    assert request.transport is not None
                    sock = request.transport.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    request.transport.abort()
                    return web.Response(status=500)
            return web.Response(status=status, headers=headers, text=text or None)
        finally:
            self.under_way -= 1
            self._changed.set()

    def samples(self) -> dict[tuple[tuple[str, str], ...], list[tuple[float, int]]]:
        """Samples by series, in the order they came."""
        out: dict[tuple[tuple[str, str], ...], list[tuple[float, int]]] = {}
        for request in self.requests:
            for labels, samples in series(request):
                out.setdefault(tuple(labels.items()), []).extend(samples)
        return out

    async def wait_for(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        """Waits until `condition()`; AssertionError after the deadline."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"still waiting after {seconds} s; {len(self.seen)} requests seen") from None
