"""The local region's HTTP server: the paths of vmauth, VictoriaLogs and Jaeger on one loopback port.

Takes remote write 1.0 and OTLP (protobuf) logs and traces as those servers do, and answers simple queries:
`/api/v1/query` (selectors), `/select/logsql/query` (words), `/api/services`, `/api/traces`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kofagent.config.address import join_endpoint
from kofagent.config.blocks import HttpServerBlock
from kofagent.net.compression import CorruptBody, TooLarge, UnknownEncoding
from kofagent.net.routes import Page, Routes
from kofagent.net.server import HttpServer
from kofagent.region.stores import LogStore, SampleStore, SpanStore, is_stale
from kofagent.wire.remote_write_reader import read_write_request

_OF_FORMS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
MAX_BODY = 32 * 1024 * 1024

METRIC_PATHS = ("/vm/insert/0/prometheus/api/v1/write", "/insert/0/prometheus/api/v1/write", "/api/v1/write")
LOG_PATHS = ("/vls/insert/opentelemetry/v1/logs", "/insert/opentelemetry/v1/logs")
TRACE_PATHS = ("/collector/v1/traces", "/v1/traces")


class Region:
    """Stores and server. `endpoint` is the real address after `start`, also for port 0."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.samples = SampleStore()
        self.logs = LogStore()
        self.spans = SpanStore()
        routes = Routes()
        for paths, take in ((METRIC_PATHS, self._write), (LOG_PATHS, self._take_logs), (TRACE_PATHS, self._take_traces)):
            for path in paths:
                routes.add(path, self._guarded(take), "POST")
        for prefix in ("", "/vm/select/0/prometheus", "/select/0/prometheus", "/prometheus"):
            routes.add(prefix + "/api/v1/query", self._query, "GET", "POST")
        for prefix in ("", "/vls"):
            routes.add(prefix + "/select/logsql/query", self._logsql, "GET", "POST")
        routes.add("/api/services", self._services)
        routes.add("/api/traces", self._traces)
        routes.add("/api/traces/*", self._trace)
        routes.add("/", self._summary)
        routes.add("/health", self._summary)
        block = HttpServerBlock(endpoint=endpoint, max_request_body_size=MAX_BODY)
        self._server = HttpServer(block, "region", routes, option="--region")

    async def start(self) -> None:
        """Listens; StartError when the address is taken."""
        await self._server.start()
        self.endpoint = join_endpoint(*self._server.address)

    async def stop(self) -> None:
        """Closes the server and discards what it stored."""
        await self._server.stop()

    def summary(self) -> dict[str, Any]:
        """What is stored, as plain data."""
        return {
            "metrics": {
                "series": len(self.samples),
                "samples_taken": self.samples.taken,
                "series_forgotten": self.samples.forgotten,
            },
            "logs": {"records": len(self.logs), "records_taken": self.logs.taken, "records_forgotten": self.logs.forgotten},
            "traces": {"traces": len(self.spans), "spans_taken": self.spans.taken, "spans_forgotten": self.spans.forgotten},
        }

    def _guarded(self, take: Callable[[bytes], Awaitable[web.Response]]) -> Page:
        """Gives the decompressed body to `take`; 4xx for what cannot be decoded."""

        async def handle(request: web.BaseRequest) -> web.Response:
            kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind in _OF_FORMS:  # a page of any origin may send these
                return web.Response(status=415, text=f"Content-Type {kind} is not taken, send application/x-protobuf")
            try:
                return await take(await self._server.read_body(request))
            except TooLarge:
                return web.Response(status=413, text="the body is too large")
            except UnknownEncoding:
                return web.Response(status=415, text="unknown Content-Encoding")
            except (CorruptBody, ValueError) as error:
                return web.Response(status=400, text=f"cannot decode: {error}")
            except DecodeError:
                return web.Response(status=400, text="cannot decode: not a protobuf message of this kind")

        return handle

    async def _write(self, body: bytes) -> web.Response:
        for labels, samples in read_write_request(body):
            self.samples.add(labels, samples)
        return web.Response(status=204)

    async def _take_logs(self, body: bytes) -> web.Response:
        request = ExportLogsServiceRequest.FromString(body)
        for resource in request.resource_logs:
            common = {a.key: _text(a.value) for a in resource.resource.attributes}
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    flat = dict(common)
                    flat.update({a.key: _text(a.value) for a in record.attributes})
                    flat["_msg"] = _text(record.body)
                    flat["_time"] = str(record.time_unix_nano or record.observed_time_unix_nano)
                    if record.severity_text:
                        flat["severity"] = record.severity_text
                    self.logs.add(flat)
        return web.Response()

    async def _take_traces(self, body: bytes) -> web.Response:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            tags = {a.key: _text(a.value) for a in resource.resource.attributes}
            process = {"serviceName": tags.get("service.name", "unknown_service"), "tags": tags}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.add(
                        {
                            "traceID": span.trace_id.hex(),
                            "spanID": span.span_id.hex(),
                            "parentSpanID": span.parent_span_id.hex(),
                            "operationName": span.name,
                            "startTime": span.start_time_unix_nano // 1000,
                            "duration": max(0, span.end_time_unix_nano - span.start_time_unix_nano) // 1000,
                            "tags": {a.key: _text(a.value) for a in span.attributes},
                            "process": process,
                        }
                    )
        return web.Response()

    async def _query(self, request: web.BaseRequest) -> web.Response:
        form = await _form(request)
        try:
            found = list(self.samples.select(str(form.get("query", ""))))
        except (ValueError, OverflowError) as error:
            return web.json_response({"status": "error", "errorType": "bad_data", "error": str(error)}, status=422)
        result = [
            {"metric": labels, "value": [samples[-1][0] / 1000, _number(samples[-1][1])]}
            for labels, samples in found
            if samples and not is_stale(samples[-1][1])
        ]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})

    async def _logsql(self, request: web.BaseRequest) -> web.Response:
        form = await _form(request)
        records = self.logs.select(str(form.get("query", "*")), _limit(form.get("limit"), 1000))
        text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
        return web.Response(text=text, content_type="application/stream+json")

    async def _services(self, request: web.BaseRequest) -> web.Response:
        names = self.spans.services()
        return web.json_response({"data": names, "total": len(names), "limit": 0, "offset": 0, "errors": None})

    async def _traces(self, request: web.BaseRequest) -> web.Response:
        found = self.spans.select(request.query.get("service"), _limit(request.query.get("limit"), 20))
        return web.json_response({"data": [{"traceID": id, "spans": spans} for id, spans in found], "errors": None})

    async def _trace(self, request: web.BaseRequest) -> web.Response:
        id = request.path.rpartition("/")[2]
        spans = self.spans.trace(id)
        if not spans:
            return web.json_response({"data": None, "errors": [{"code": 404, "msg": "trace not found"}]}, status=404)
        return web.json_response({"data": [{"traceID": id, "spans": spans}], "errors": None})

    async def _summary(self, request: web.BaseRequest) -> web.Response:
        return web.json_response(self.summary())


async def _form(request: web.BaseRequest) -> dict[str, Any]:
    """The parameters of a query, from its URL and its body."""
    return {**request.query, **(await request.post() if request.method == "POST" else {})}


def _text(value: Any) -> str:
    """An AnyValue as text."""
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind == "array_value":
        return json.dumps([_text(v) for v in value.array_value.values])
    if kind == "kvlist_value":
        return json.dumps({p.key: _text(p.value) for p in value.kvlist_value.values})
    if kind == "bytes_value":
        return str(value.bytes_value.hex())
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    return str(getattr(value, kind))


def _number(value: float) -> str:
    return repr(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def _limit(text: Any, default: int) -> int:
    try:
        return max(1, min(10_000, int(text)))
    except (TypeError, ValueError):
        return default
