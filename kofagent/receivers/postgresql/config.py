"""Options of `postgresql`, in upstream's spelling and with upstream's defaults."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from kofagent.component.metric_options import CatalogueOptions, check_names, switched_on
from kofagent.config.address import split_endpoint
from kofagent.config.base import ComponentConfig, Duration, Secret
from kofagent.config.blocks import TlsClientBlock
from kofagent.receivers.postgresql.catalog import DEFAULTS, RESOURCE_ATTRIBUTES

EVENTS = ("db.server.query_sample", "db.server.top_query")
NO_EVENTS = "query samples and top queries are not supported; leave this off"


def _off(value: bool) -> bool:
    if value:
        raise ValueError(NO_EVENTS)
    return value


class EventToggle(ComponentConfig):
    """An entry of `events`."""

    idle_unless_enabled = False  # nobody can turn it on

    enabled: bool = Field(False, description="Accepted only when false: query samples and top queries are not supported.")

    _is_off = field_validator("enabled")(_off)


class QuerySamples(EventToggle):
    """`query_sample_collection`."""

    max_rows_per_query: int = Field(1000, description="Accepted for compatibility.")


class TopQueries(EventToggle):
    """`top_query_collection`."""

    max_rows_per_query: int = Field(1000, description="Accepted for compatibility.")
    top_n_query: int = Field(1000, description="Accepted for compatibility.")
    max_explain_each_interval: int = Field(1000, description="Accepted for compatibility.")
    query_plan_cache_size: int = Field(1000, description="Accepted for compatibility.")
    query_plan_cache_ttl: Duration = Field(3600.0, description="Accepted for compatibility.")
    collection_interval: Duration = Field(60.0, description="Accepted for compatibility.")


class ConnectionPool(ComponentConfig):
    """`connection_pool`: one connection to each database is kept from one collection to the next."""

    max_idle_time: Duration = Field(
        0.0, ge=0, description="Connections are not kept if this is shorter than collection_interval; 0: no limit."
    )
    max_lifetime: Duration = Field(0.0, ge=0, description="A connection that is older is closed after a collection; 0: no limit.")
    max_idle: int = Field(2, description="Connections are not kept if this is 0 or less.")
    max_open: int = Field(0, ge=0, description="Accepted for compatibility; there is one connection to a database.")


class Tls(TlsClientBlock):
    """`tls`. PostgreSQL's client checks the name that it connects to, so no other one can be given."""

    insecure_skip_verify: bool = Field(True, description="Do not verify the certificate of the server.")

    @field_validator("server_name_override")
    @classmethod
    def _same_name(cls, value: str) -> str:
        if value:
            raise ValueError("is not supported; the certificate is held against the host of endpoint")
        return value


class Config(CatalogueOptions):
    """Options of postgresql."""

    known_metrics = DEFAULTS
    known_attributes = RESOURCE_ATTRIBUTES

    endpoint: str = Field(
        "localhost:5432", description="host:port; with transport unix the folder of the socket without its first /, and the port."
    )
    transport: Literal["tcp", "unix"] = Field("tcp", description="How the server is reached.")
    username: str = Field(min_length=1, description="The user of the database.")
    password: Secret = Field(description="The password of the user.")
    databases: list[str] = Field([], description="Databases that are read; empty: all that are not templates.")
    exclude_databases: list[str] = Field([], description="Databases that are not read.")
    tls: Tls = Field(Tls(), description="TLS options.")
    connection_pool: ConnectionPool = Field(ConnectionPool(), description="How long connections are kept.")
    collection_interval: Duration = Field(10.0, gt=0, description="Time between two collections.")
    initial_delay: Duration = Field(1.0, ge=0, description="Time to wait before the first collection.")
    timeout: Duration = Field(
        0.0, ge=0, description="Time limit for a connection and for each query; 0: 10 s. What exceeds it costs its own metrics."
    )
    events: dict[str, EventToggle] = Field({}, description="Accepted only when off: events are not supported.")
    query_sample_collection: QuerySamples = Field(QuerySamples(), description="Accepted only when off.")
    top_query_collection: TopQueries = Field(TopQueries(), description="Accepted only when off.")

    @field_validator("events")
    @classmethod
    def _are_events(cls, value: dict[str, EventToggle]) -> dict[str, EventToggle]:
        check_names(value, EVENTS, "there is no event {!r}")
        return value

    @field_validator("password")
    @classmethod
    def _has_a_password(cls, value: Secret) -> Secret:
        if not value.get_secret_value():
            raise ValueError("is empty")
        return value

    @model_validator(mode="after")
    def _has_an_address(self) -> Config:
        self.address()
        return self

    def address(self) -> tuple[str, int]:
        """The host, or the folder of the socket, and the port. ValueError with a sentence."""
        if self.transport == "tcp":
            host, port = split_endpoint(self.endpoint)
        else:
            # A folder has slashes, which are no part of host:port.
            folder, _, number = self.endpoint.rpartition(":")
            host, port = "/" + folder.lstrip("/"), split_endpoint(f"socket:{number}")[1]
        if not port or host in ("", "/"):
            raise ValueError(f"endpoint {self.endpoint!r} is not host:port; write for example localhost:5432")
        return host, port

    def on(self) -> frozenset[str]:
        """The names of the metrics that are sent."""
        return switched_on(DEFAULTS, self.metrics)
