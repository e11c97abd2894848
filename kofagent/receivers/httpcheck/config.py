"""Options of `httpcheck`, in upstream's spelling and with upstream's defaults."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from kofagent.component.metric_options import MetricToggle, check_names, switched_on
from kofagent.config.base import ComponentConfig, Duration, Url
from kofagent.config.blocks import Compression, HttpClientBlock
from kofagent.config.re2 import Regexp
from kofagent.receivers.httpcheck.catalog import DEFAULTS
from kofagent.receivers.httpcheck.json_path import parse

_LARGEST = 1 << 20
_TOKEN = frozenset("!#$%&'*+-.^_`|~ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class Validation(ComponentConfig):
    """An entry of `validations`; every option that is set is a validation of its own."""

    contains: str = Field("", description="A text that the body has to contain.")
    not_contains: str = Field("", description="A text that the body must not contain.")
    json_path: str = Field(
        "", description="Names and indices of a value that the body, JSON, has to have: `checks.0.state`; `#`: length of an array."
    )
    equals: str = Field("", description="The text of the value at json_path; empty: any.")
    max_size: int | None = Field(None, ge=0, le=_LARGEST, description="Largest body in bytes, at most 1 MiB.")
    min_size: int | None = Field(None, ge=0, le=_LARGEST, description="Smallest body in bytes, at most 1 MiB.")
    regex: Regexp = Field("", description="A pattern (RE2) that has to be found in the body.")

    @field_validator("json_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        if value:
            parse(value)
        return value

    @model_validator(mode="after")
    def _has_a_path(self) -> Validation:
        if self.equals and not self.json_path:
            raise ValueError("equals is the text of the value at json_path, which is not set")
        return self


class Target(HttpClientBlock):
    """An entry of `targets`: endpoints that are asked alike."""

    endpoint: Url = Field("", description="URL that is asked.")
    endpoints: list[Url] = Field([], description="URLs that are asked.")
    method: str = Field("GET", description="HTTP method.")
    body: str = Field("", description="Body of the request.")
    auto_content_type: bool = Field(
        False, description="Add a Content-Type that fits the body: JSON, a form or text; headers go before."
    )
    validations: list[Validation] = Field([], description="What the bodies of answers are checked for.")
    timeout: Duration = Field(30.0, ge=0, description="Time limit of a check; 0: 30 s.")
    compression: Compression = Field("", description="Compression of the body of the request.")

    @field_validator("endpoints")
    @classmethod
    def _none_is_empty(cls, value: list[str]) -> list[str]:
        if not all(value):
            raise ValueError("an endpoint is empty")
        return value

    @field_validator("method")
    @classmethod
    def _is_a_method(cls, value: str) -> str:
        method = value.upper() or "GET"
        if not _TOKEN.issuperset(method) or method == "CONNECT":
            raise ValueError(f"{value!r} is not a method that can be sent")
        return method

    @model_validator(mode="after")
    def _has_endpoints(self) -> Target:
        if not self.urls():
            raise ValueError("write endpoint or endpoints: what is asked")
        return self

    def urls(self) -> list[str]:
        """All that are asked."""
        return [*self.endpoints, *([self.endpoint] if self.endpoint else [])]


class Config(ComponentConfig):
    """Options of httpcheck."""

    collection_interval: Duration = Field(60.0, gt=0, description="Time between two checks of an endpoint.")
    initial_delay: Duration = Field(1.0, ge=0, description="Time to wait before the first check.")
    timeout: Duration = Field(0.0, ge=0, description="Time limit of every check, besides that of its target; 0: none.")
    targets: list[Target] = Field(min_length=1, description="What is checked.")
    metrics: dict[str, MetricToggle] = Field({}, description="Metrics switched on or off by name.")

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, value: dict[str, MetricToggle]) -> dict[str, MetricToggle]:
        check_names(value, DEFAULTS, "there is no metric {!r}")
        return value

    def on(self) -> frozenset[str]:
        """The names of the metrics that are sent."""
        return switched_on(DEFAULTS, self.metrics)
