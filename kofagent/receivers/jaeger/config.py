"""Options of the `jaeger` receiver."""

from __future__ import annotations

from pydantic import Field, model_validator

from kofagent.config.base import ByteSize, ComponentConfig
from kofagent.config.blocks import GrpcServerBlock, HttpServerBlock, ListenBlock, ProtocolsBlock


class GrpcProtocol(GrpcServerBlock):
    """`protocols.grpc`."""

    endpoint: str = Field("localhost:14250", description="host:port to listen on; port 0 picks a free port.")


class ThriftHttpProtocol(HttpServerBlock):
    """`protocols.thrift_http`."""

    endpoint: str = Field("localhost:14268", description="host:port to listen on; port 0 picks a free port.")


class UdpProtocol(ListenBlock):
    """What both UDP protocols have."""

    network = "udp"

    endpoint: str = Field(description="host:port to listen on; port 0 picks a free port.")
    queue_size: int = Field(1000, ge=1, description="Datagrams that may wait for the pipeline; more are dropped, counted.")
    max_packet_size: int = Field(65000, ge=1, description="Largest datagram in bytes; a longer one is dropped, counted.")
    workers: int = Field(10, ge=1, description="Accepted for compatibility; datagrams are handled in order.")
    socket_buffer_size: int = Field(0, ge=0, description="Size of the socket's receive buffer in bytes; 0: the system's default.")


class CompactProtocol(UdpProtocol):
    """`protocols.thrift_compact`."""

    endpoint: str = Field("localhost:6831", description="host:port to listen on; port 0 picks a free port.")


class BinaryProtocol(UdpProtocol):
    """`protocols.thrift_binary`."""

    endpoint: str = Field("localhost:6832", description="host:port to listen on; port 0 picks a free port.")


class Protocols(ProtocolsBlock):
    """`protocols`: a protocol that is present is enabled, with its defaults if it has no options."""

    grpc: GrpcProtocol | None = Field(None, description="gRPC with model.proto; default: disabled.")
    thrift_http: ThriftHttpProtocol | None = Field(None, description="Thrift over HTTP; default: disabled.")
    thrift_compact: CompactProtocol | None = Field(None, description="Thrift's compact protocol over UDP; default: disabled.")
    thrift_binary: BinaryProtocol | None = Field(None, description="Thrift's binary protocol over UDP; default: disabled.")


class Config(ComponentConfig):
    """Options of the `jaeger` receiver."""

    protocols: Protocols = Field(Protocols(), description="The protocols to serve.")
    max_in_flight_size: ByteSize = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Maximum size of all requests and datagrams in progress; above it clients are told to wait. 0: no limit.",
    )

    @model_validator(mode="after")
    def _one_at_least(self) -> Config:
        if all(block is None for _, block in self.protocols):
            raise ValueError("no protocol is enabled; write grpc:, thrift_http:, thrift_compact: or thrift_binary: under protocols")
        return self
