"""Options of the `prometheus` receiver."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.blocks import HttpServerBlock
from kofagent.prometheus.config import PrometheusConfig
from kofagent.prometheus.monitors.options import AllocationBlock, MonitorsBlock


class ServerConfig(HttpServerBlock):
    """`api_server.server_config`."""

    joins = frozenset()


def _default_server() -> ServerConfig:
    return ServerConfig(endpoint="localhost:9090", read_timeout=600.0)


class ApiServerBlock(ComponentConfig):
    """`api_server`."""

    enabled: bool = Field(False, description="Serve Prometheus' API for targets.")
    max_connections: int = Field(512, ge=1, description="Maximum number of connections waiting to be served.")
    server_config: ServerConfig = Field(_default_server(), description="Where it listens.")

    @field_validator("server_config", mode="before")
    @classmethod
    def _endpoint(cls, value: Any) -> Any:
        if value is None:
            return _default_server()
        return {"endpoint": "localhost:9090", "read_timeout": "10m", **value} if isinstance(value, dict) else value


class SeriesBudgetBlock(ComponentConfig):
    """`series_budget`."""

    per_namespace: int = Field(
        0,
        ge=0,
        description="Most series that the targets of one Kubernetes namespace may have together, by __meta_kubernetes_namespace or "
        "the label namespace. Samples of further series are left out and counted, by namespace in "
        "kofagent_scrape_namespace_overflow_samples_total. 0: no limit. An option of kofagent only.",
    )


class Config(ComponentConfig):
    """Options of the prometheus receiver."""

    config: PrometheusConfig = Field(PrometheusConfig(), description="Prometheus' configuration: global, scrape_configs.")
    api_server: ApiServerBlock = Field(
        ApiServerBlock(),
        description="Prometheus' API for targets.",
        validation_alias=AliasChoices("api_server", "prometheus_api_server"),
    )
    monitors: MonitorsBlock = Field(MonitorsBlock(), description="Scrape the targets of ServiceMonitors and similar objects.")
    allocation: AllocationBlock = Field(AllocationBlock(), description="The share of all targets that this agent scrapes.")
    series_budget: SeriesBudgetBlock = Field(SeriesBudgetBlock(), description="How many series targets may have together.")
    target_allocator: dict[str, Any] | None = Field(
        None, description="Accepted for compatibility; write config.scrape_configs, or set monitors.enabled."
    )
    trim_metric_suffixes: bool = Field(False, description="Remove type and unit suffixes from metric names in OTLP.")
    use_start_time_metric: bool = Field(False, description="Accepted for compatibility; removed upstream.")
    start_time_metric_regex: str = Field("", description="Accepted for compatibility; removed upstream.")
    report_extra_scrape_metrics: bool = Field(False, description="Former name of extra_scrape_metrics in global.")
    ignore_metadata: bool = Field(False, description="Accepted for compatibility; metadata is used where the page has it.")
    scrape_on_shutdown: bool = Field(False, description="Scrape every target once more before stopping.")
    discovery_reload_on_startup: bool = Field(False, description="Accepted for compatibility; discovery always starts at once.")
    initial_scrape_offset: Duration = Field(0.0, ge=0, description="Time to wait before the first scrape.")
    buffer_period: Duration = Field(0.0, description="Accepted for compatibility; removed upstream.")
    buffer_count: int = Field(0, description="Accepted for compatibility; removed upstream.")

    @model_validator(mode="before")
    @classmethod
    def _empty_blocks(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _has_jobs(self) -> Config:
        jobs = self.config.scrape_configs or self.config.scrape_config_files or self.monitors.enabled
        if not jobs and self.target_allocator is None:
            raise ValueError("there is nothing to scrape; write config.scrape_configs or set monitors.enabled")
        return self
