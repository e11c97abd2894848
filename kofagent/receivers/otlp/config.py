"""Options of the `otlp` receiver."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ByteSize, ComponentConfig
from kofagent.config.blocks import GrpcServerBlock, HttpServerBlock, ProtocolsBlock


class GrpcProtocol(GrpcServerBlock):
    """`protocols.grpc`."""

    endpoint: str = Field("localhost:4317", description="host:port to listen on; port 0 picks a free port.")


class HttpProtocol(HttpServerBlock):
    """`protocols.http`."""

    endpoint: str = Field("localhost:4318", description="host:port to listen on; port 0 picks a free port.")
    traces_url_path: str = Field("/v1/traces", description="URL path of traces.")
    metrics_url_path: str = Field("/v1/metrics", description="URL path of metrics.")
    logs_url_path: str = Field("/v1/logs", description="URL path of logs.")

    @field_validator("traces_url_path", "metrics_url_path", "logs_url_path")
    @classmethod
    def _absolute(cls, path: str) -> str:
        return path if path.startswith("/") else "/" + path


class Protocols(ProtocolsBlock):
    """`protocols`: a protocol that is present is enabled, with its defaults if it has no options."""

    grpc: GrpcProtocol | None = Field(None, description="OTLP/gRPC; default: disabled.")
    http: HttpProtocol | None = Field(None, description="OTLP/HTTP; default: disabled.")


class Config(ComponentConfig):
    """Options of the `otlp` receiver."""

    protocols: Protocols = Field(Protocols(), description="The protocols to serve.")
    max_in_flight_size: ByteSize = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Maximum size of all requests in progress; above it clients are told to wait. 0: no limit.",
    )

    @model_validator(mode="after")
    def _one_at_least(self) -> Config:
        if self.protocols.grpc is None and self.protocols.http is None:
            raise ValueError("no protocol is enabled; write grpc: or http: (or both) under protocols")
        return self
