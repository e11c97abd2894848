"""`ComponentConfig`: what every component's options are declared with, and the field types upstream's options use.

One declaration gives validation (all errors at once), defaults, the JSON Schema and the generated reference: write
`Field(default, description=...)` for every option, in upstream's spelling.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo

from kofagent.config.errors import Path, Problem
from kofagent.config.redact import without_secrets
from kofagent.config.tree import Node

__all__ = ["ByteSize", "ComponentConfig", "Duration", "PipelineName", "Secret", "StorageId", "Url", "parse_duration"]

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "y": 31536000.0,
}
_DURATION = re.compile(r"([0-9]++(?:\.[0-9]+)?|\.[0-9]++)(ns|us|\u00b5s|\u03bcs|ms|s|m|h|d|w|y)")
_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "k": 10**3,
    "mb": 10**6,
    "m": 10**6,
    "gb": 10**9,
    "g": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "ki": 2**10,
    "mib": 2**20,
    "mi": 2**20,
    "gib": 2**30,
    "gi": 2**30,
    "tib": 2**40,
}


class Inner(NamedTuple):
    """The options of a component that another one starts, in the options of that one."""

    path: Path
    """Where they stand, below the block of the other one."""
    kind: str
    id: str
    node: Node
    """The options; values that become known later only are made up."""
    loose: frozenset[Path] = frozenset()
    """Where those are: what is wrong with such a value is not said."""
    given: Mapping[str, Any] = {}
    """Options that are set for it if it has them and they are not set."""


class ComponentConfig(BaseModel):
    """Base of every options class. Unknown keys are errors; `null` for a whole block means its defaults."""

    # defer_build: a model that no configuration uses costs no memory; 1.5 MiB of a node agent
    model_config = ConfigDict(
        defer_build=True, extra="forbid", populate_by_name=True, validate_default=False, arbitrary_types_allowed=True
    )

    idle_unless_enabled: ClassVar[bool] = True
    """Whether an option `enabled` of this class turns all the others on."""

    def notices(self) -> Iterable[Problem]:
        """Warnings about options that are valid, with paths below this block; asked once, when a configuration is loaded."""
        return ()

    @classmethod
    def inner(cls, node: Node) -> Iterable[Inner]:
        """The components that are started with options in this block, `node`, which may be wrong in any way."""
        return ()

    def misfits(self, signal: str) -> Iterable[Problem]:
        """What cannot be used in a pipeline of `signal`, with paths below this block."""
        return ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, data: Any) -> Any:
        if data is None:
            return {}
        if isinstance(data, Mapping) and any(v is None for v in data.values()):
            takes_null = _takes_null(cls)
            return {k: v for k, v in data.items() if v is not None or takes_null.get(k, True)}
        return data


def spellings(name: str, field: FieldInfo) -> list[str]:
    """All keys a field is known by, the one to write first."""
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias] if alias is not None else []
    return list(dict.fromkeys([*(c for c in choices if isinstance(c, str)), name]))


@functools.cache
def _takes_null(model: type[BaseModel]) -> dict[str, bool]:
    return {key: _admits_none(field.annotation) for name, field in model.model_fields.items() for key in spellings(name, field)}


def _admits_none(annotation: Any) -> bool:
    if annotation is None or annotation is type(None) or annotation is Any:
        return True
    if get_origin(annotation) is Annotated:
        return _admits_none(get_args(annotation)[0])
    return get_origin(annotation) in (Union, types.UnionType) and any(map(_admits_none, get_args(annotation)))


def parse_duration(value: Any) -> float:
    """Seconds of a Go or Prometheus duration (`1m30s`, `1d`, `0`); a bare number other than 0 has no unit and is refused."""
    if isinstance(value, bool):
        raise ValueError("not a duration; write a number with a unit, such as 10s")
    if isinstance(value, int | float):
        # Go reads a bare integer as nanoseconds, which is never intended; 0 is unambiguous. Defaults are float seconds.
        if isinstance(value, float) or value == 0:
            return float(value)
        raise ValueError(f"a duration needs a unit; did you mean {value}s?")
    text = str(value).strip()
    sign = 1.0
    if text[:1] in "+-" and text:
        sign = -1.0 if text[0] == "-" else 1.0
        text = text[1:]
    if text == "0":
        return 0.0
    total, at = 0.0, 0
    while match := _DURATION.match(text, at):
        total += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    if at != len(text) or not text:
        raise ValueError(f"{value!r} is not a duration; write a number with a unit, such as 10s or 1m30s")
    return sign * total


def parse_size(value: Any) -> int:
    """Bytes of `1048576`, `1MiB`, `1 MB` or `1mb`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*+([A-Za-z]*)\s*", str(value))
    unit = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None or len(match[1]) > 30:
        raise ValueError(f"{str(value)[:60]!r} is not a size; write bytes or a number with a unit, such as 4MiB")
    return int(float(match[1]) * unit)


Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema({"type": ["string", "integer"], "format": "duration"})]
"""Seconds as float; written as in Go (`200ms`, `1m30s`)."""

ByteSize = Annotated[int, BeforeValidator(parse_size), WithJsonSchema({"type": ["string", "integer"], "format": "bytes"})]
"""Bytes as int; written as a number or with a unit (`4MiB`)."""


class UrlError(ValueError):
    """A text is not the URL that is needed. `what` is wrong with it, `hint` says what to write; the text is not in them."""

    def __init__(self, text: str, what: str, hint: str) -> None:
        super().__init__(f"the URL {without_secrets(text)!r} {what}; {hint}")
        self.what = what
        self.hint = hint


def check_url(text: str) -> str:
    """The text if it is empty or an http or https URL with a host; UrlError otherwise."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UrlError(text, "is not valid", "write http://host:port or https://host:port") from None
    if not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        raise UrlError(text, "has no scheme", "put http:// or https:// in front")
    if parts.scheme not in ("http", "https"):
        raise UrlError(text, "is not an HTTP URL", "write http://host or https://host")
    if not host:
        raise UrlError(text, "has no host", "write http://host or https://host")
    return text


class Marker:
    """Says in an annotation what a value is besides its type."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


class Role(Marker):
    """What an extension is named for: `method` is what its class then has, `task` completes "the extension cannot"."""

    def __init__(self, name: str, method: str, task: str) -> None:
        super().__init__(name)
        self.method = method
        self.task = task


EXTENSION = Marker("EXTENSION")
CLIENT_AUTH = Role("CLIENT_AUTH", "request_headers", "sign requests of a client")
SERVER_AUTH = Role("SERVER_AUTH", "authenticate", "check requests to a server")
STORAGE = Role("STORAGE", "open_store", "store data")
QUEUE_STORAGE = Role("QUEUE_STORAGE", "queue_log", "store queues")
LEADER_ELECTOR = Role("LEADER_ELECTOR", "is_leader", "elect a leader")
OBSERVER = Role("OBSERVER", "observe", "observe endpoints")
ROLES = (CLIENT_AUTH, SERVER_AUTH, STORAGE, QUEUE_STORAGE, LEADER_ELECTOR, OBSERVER)
PIPELINE = Marker("PIPELINE")
AS_WRITTEN = Marker("AS_WRITTEN")
"""A scalar counts as it is written: `1.10` is the string "1.10", as Go's YAML library reads strings."""

ClientAuthId = Annotated[str, EXTENSION, CLIENT_AUTH]
"""The name of an extension that signs requests. Like all of these it has to be among `service.extensions`."""
ServerAuthId = Annotated[str, EXTENSION, SERVER_AUTH]
StorageId = Annotated[str, EXTENSION, STORAGE]
QueueStorageId = Annotated[str, EXTENSION, QUEUE_STORAGE]
LeaderElectorId = Annotated[str, EXTENSION, LEADER_ELECTOR]
ObserverId = Annotated[str, EXTENSION, OBSERVER]

PipelineName = Annotated[str, PIPELINE]
"""The name of a pipeline that receives from the connector in whose options it stands."""

PARAMETERS = Marker("PARAMETERS")
"""A map whose values may be secrets: which ones, their names say."""

Url = Annotated[str, AfterValidator(check_url)]
"""An http or https URL, or empty."""

Secret = SecretStr
"""A value that is never printed: `repr` and every dump show asterisks. Read it with `.get_secret_value()`."""
