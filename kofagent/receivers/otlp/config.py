"""Options of the `otlp` receiver."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ByteSize, ComponentConfig
from kofagent.config.blocks import GrpcServerBlock, HttpServerBlock


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
