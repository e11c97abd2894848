"""`GrpcSink`: an OTLP/gRPC backend for traces that answers as told, and hands what it takes to the trial's sink."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from tests.faults.sink import Sink

TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"


@dataclass(frozen=True)
class GrpcAnswer:
    """What calls get; `retry_after` seconds are told with it as RetryInfo, if there are any."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    retry_after: int = 0


class GrpcSink:
    """`otherwise` is the answer to every call; `calls` are their moments (monotonic seconds) and their codes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.otherwise = GrpcAnswer()
        self.calls: list[tuple[float, grpc.StatusCode]] = []

    async def __aenter__(self) -> GrpcSink:
        self._server = grpc.aio.server()
        handler = grpc.method_handlers_generic_handler(TRACES, {"Export": grpc.unary_unary_rpc_method_handler(self._export)})
        self._server.add_generic_rpc_handlers((handler,))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    async def _export(self, message: bytes, call: Any) -> bytes:
        answer = self.otherwise
        self.calls.append((time.monotonic(), answer.code))
        if answer.code is grpc.StatusCode.OK:
            self._sink.take("/v1/traces", message)
            return b""
        trailers: tuple[tuple[str, bytes], ...] = ()
        if answer.retry_after:
            told = Packed()
            told.Pack(RetryInfo(retry_delay=Duration(seconds=answer.retry_after)))
            details = Status(code=answer.code.value[0], message="as told", details=[told])
            trailers = (("grpc-status-details-bin", details.SerializeToString()),)
        await call.abort(answer.code, "as told", trailers)
        raise AssertionError("abort raises")
