"""`otlp`: telemetry over OTLP/gRPC and OTLP/HTTP (protobuf and JSON), opentelemetry-proto v1 and its specification.

A request is answered when somebody downstream owns its data; what is refused is answered so that the sender keeps it
(UNAVAILABLE, 503 with the time to wait) or gives it up (INVALID_ARGUMENT, 400). Every payload is checked whole and passed on as
the bytes that came in. Sizes are limited after decompression: `max_recv_msg_size_mib`, `max_request_body_size`, and
`max_in_flight_size` for all requests together. A signal that no pipeline takes from this receiver is not served: 404,
UNIMPLEMENTED. What is malformed is counted in `kofagent_receiver_rejected_requests_total{reason}` and logged once.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from kofagent.component.protocols import Context, Receiver
from kofagent.config.base import ByteSize, ComponentConfig
from kofagent.config.blocks import GrpcServerBlock, HttpServerBlock
from kofagent.net.server import Room
from kofagent.receivers.otlp.http import HttpDoor
from kofagent.receivers.otlp.intake import Intake


class GrpcProtocol(GrpcServerBlock):
    """`protocols.grpc`."""

    endpoint: str = Field("localhost:4317", description="host:port to listen on; port 0 takes a free one.")


class HttpProtocol(HttpServerBlock):
    """`protocols.http`."""

    endpoint: str = Field("localhost:4318", description="host:port to listen on; port 0 takes a free one.")
    traces_url_path: str = Field("/v1/traces", description="Path of traces.")
    metrics_url_path: str = Field("/v1/metrics", description="Path of metrics.")
    logs_url_path: str = Field("/v1/logs", description="Path of logs.")

    @field_validator("traces_url_path", "metrics_url_path", "logs_url_path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return path if path.startswith("/") else "/" + path


class Protocols(ComponentConfig):
    """`protocols`: a protocol that is named is on, with its defaults where nothing follows."""

    grpc: GrpcProtocol | None = Field(None, description="OTLP/gRPC; absent: off.")
    http: HttpProtocol | None = Field(None, description="OTLP/HTTP; absent: off.")

    @model_validator(mode="before")
    @classmethod
    def _named_is_on(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: {} if block is None and name in ("grpc", "http") else block for name, block in value.items()}
        return value


class Config(ComponentConfig):
    """Options of the `otlp` receiver."""

    protocols: Protocols = Field(Protocols(), description="The protocols to serve.")
    max_in_flight_size: ByteSize = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Bytes of all requests under way together, beyond which senders are told to wait; 0: no limit.",
    )

    @model_validator(mode="after")
    def _one_at_least(self) -> Config:
        if self.protocols.grpc is None and self.protocols.http is None:
            raise ValueError("no protocol is named, so nothing would be received; write grpc: or http: (or both) under protocols")
        return self


class OtlpReceiver(Receiver):
    """One or two servers in front of the same pipelines."""

    Config = Config

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self.ports: dict[str, int] = {}
        """Port by protocol, after `start`."""
        self._doors: list[Any] = []

    async def start(self) -> None:
        """Binds the sockets; StartError that says which is not free."""
        protocols: Protocols = self.config.protocols
        room = Room(self.config.max_in_flight_size)
        try:
            if protocols.grpc is not None:
                from kofagent.receivers.otlp.grpc import GrpcDoor

                grpc_door = GrpcDoor(protocols.grpc, self.context, Intake(self.context, self.outputs, room, "grpc"))
                await grpc_door.start()
                self._doors.append(grpc_door)
                self.ports["grpc"] = grpc_door.port
            if protocols.http is not None:
                paths = {
                    "traces": protocols.http.traces_url_path,
                    "metrics": protocols.http.metrics_url_path,
                    "logs": protocols.http.logs_url_path,
                }
                http_door = HttpDoor(protocols.http, self.context, Intake(self.context, self.outputs, room, "http"), paths)
                await http_door.start()
                self._doors.append(http_door)
                self.ports["http"] = http_door.port
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Takes nothing new, lets requests under way end."""
        doors, self._doors = self._doors, []
        for door in doors:
            await door.stop()


COMPONENT = OtlpReceiver
