"""A registry of made-up components: what configuration needs to know of the real ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from kofagent.config.base import AS_WRITTEN, ComponentConfig, Duration, PipelineName, Secret, StorageId, Url
from kofagent.config.blocks import AuthBlock, HttpClientBlock, QueueBlock
from kofagent.config.errors import Problem
from kofagent.telemetry.signal import Signal


class Nested(ComponentConfig):
    port: int = 1
    name: str = ""
    level: Literal["low", "high"] = "low"


class In(ComponentConfig):
    """A receiver with one of everything."""

    interval: Duration = Field(10.0, description="How often.")
    count: int = Field(3, ge=0, description="How many.")
    flag: bool = False
    names: list[str] = []
    nested: Nested = Nested()
    many: list[Nested] = []
    by_name: dict[str, Nested] = {}
    either: Nested | list[str] | None = None
    anything: Any = None
    auth: AuthBlock | None = None
    storage: StorageId | None = None
    old: bool = Field(False, description="Accepted for compatibility; nothing reads it.")

    def notices(self) -> Iterable[Problem]:
        return [Problem(("names", i), "'noisy' is old", "write 'quiet'") for i, n in enumerate(self.names) if n == "noisy"]


class Out(HttpClientBlock):
    logs_endpoint: Url = ""
    sending_queue: QueueBlock | None = None


class Plain(ComponentConfig):
    """No options."""


class Login(ComponentConfig):
    username: str = ""
    password: Secret | None = None


class Table(ComponentConfig):
    table: list[PipelineName] = []


class ScrapeSide(ComponentConfig):
    config: dict[str, list[dict[str, Annotated[str, AS_WRITTEN]]]] = {}


CONFIGS: dict[tuple[str, str], type[ComponentConfig]] = {
    ("receivers", "in"): In,
    ("receivers", "prometheus"): ScrapeSide,
    ("processors", "pass"): Plain,
    ("exporters", "out"): Out,
    ("exporters", "hole"): Plain,
    ("exporters", "lines"): Plain,
    ("connectors", "forward"): Plain,
    ("connectors", "table"): Table,
    ("extensions", "login"): Login,
}
TYPES = {
    kind: tuple(t for k, t in CONFIGS if k == kind) for kind in ("receivers", "processors", "exporters", "connectors", "extensions")
}
ALIASES: dict[str, dict[str, str]] = {kind: {} for kind in TYPES} | {"exporters": {"out_old": "out"}}


def type_of(id: str) -> str:
    return id.split("/", 1)[0]


def resolve(kind: str, type: str) -> str | None:
    type = ALIASES[kind].get(type, type)
    return type if type in TYPES[kind] else None


class Loaded:
    """Stands for a component class: what configuration looks at."""

    request_headers = authenticate = open_store = queue_log = None
    routes = frozenset((signal, signal) for signal in Signal)

    def __init__(self, config: type[ComponentConfig], signals: Iterable[Signal] = Signal) -> None:
        self.Config = config
        self.signals = frozenset(signals)
        self.__doc__ = f"A component.\n\n{config.__doc__ or ''}"


def load(kind: str, type: str) -> Loaded:
    name = resolve(kind, type)
    assert name is not None
    return Loaded(CONFIGS[kind, name], [Signal.LOGS] if name == "lines" else Signal)
