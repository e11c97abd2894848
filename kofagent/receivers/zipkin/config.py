"""Options of the `zipkin` receiver."""

from __future__ import annotations

from pydantic import Field

from kofagent.config.base import ByteSize
from kofagent.config.blocks import HttpServerBlock


class Config(HttpServerBlock):
    """Options of the `zipkin` receiver: those of an HTTP server and what follows."""

    endpoint: str = Field("localhost:9411", description="host:port to listen on; port 0 picks a free port.")
    parse_string_tags: bool = Field(False, description="Tags that look like numbers or booleans become such attributes.")
    max_in_flight_size: ByteSize = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Maximum size of all requests in progress; above it clients are told to wait. 0: no limit.",
    )
