"""Prometheus' configuration in the `config` key of the receiver: `global` and `scrape_configs`, complete.

Spellings and defaults are Prometheus' (prometheus.io, configuration). Keys that only a Prometheus server can serve (rules,
alerting, remote read and write) are refused as upstream's receiver refuses them; `storage`, `tracing`, `otlp` and `runtime`
are accepted without effect.
"""

from __future__ import annotations

import glob
import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import AliasChoices, Field, PrivateAttr, ValidationError, model_validator

from kofagent.config.base import PARAMETERS, ComponentConfig, Duration
from kofagent.config.errors import ConfigErrors, Problem
from kofagent.config.tree import Origin, node_of
from kofagent.config.validation_errors import problems_of
from kofagent.prometheus.client_config import Base2Size, HttpClientOptions
from kofagent.prometheus.discovery.config import DiscoveryOptions
from kofagent.prometheus.relabel import RelabelConfig, Text

Protocol = Literal["PrometheusProto", "PrometheusText0.0.4", "PrometheusText1.0.0", "OpenMetricsText0.0.1", "OpenMetricsText1.0.0"]
DEFAULT_PROTOCOLS: tuple[Protocol, ...] = (
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText1.0.0",
    "PrometheusText0.0.4",
)
Validation = Literal["", "utf8", "legacy"]
Escaping = Literal["", "allow-utf-8", "underscores", "dots", "values"]
_FILES = re.compile(r"[^*]*(\*[^/]*)?\Z")


class Limits(ComponentConfig):
    """Limits of scrapes, and what else `global` and a job both have."""

    body_size_limit: Base2Size = Field(
        0, ge=0, description="Largest page after decompression; 0: an eighth of the memory limit, at most 64 MiB."
    )
    sample_limit: int = Field(0, ge=0, description="Largest number of samples of a page after relabelling; 0: no limit.")
    target_limit: int = Field(0, ge=0, description="Largest number of targets of a job; 0: no limit.")
    label_limit: int = Field(
        0, ge=0, description="Largest number of labels of a series; 0: 4096, which no series may have more of."
    )
    label_name_length_limit: int = Field(0, ge=0, description="Longest label name in bytes; 0: no limit.")
    label_value_length_limit: int = Field(0, ge=0, description="Longest label value in bytes; 0: no limit.")
    keep_dropped_targets: int = Field(0, ge=0, description="Dropped targets shown per job; 0: all.")
    metric_name_escaping_scheme: Escaping = Field("", description="Escaping of names to request.")
    extra_scrape_metrics: bool | None = Field(None, description="Add scrape_timeout_seconds and similar series.")
    scrape_failure_log_file: Text = Field("", description="File that failed scrapes are written to.")


class GlobalConfig(Limits):
    """`global`: what jobs inherit."""

    scrape_interval: Duration = Field(60.0, description="Time between two scrapes of a target.")
    scrape_timeout: Duration = Field(10.0, description="Time for one scrape; at most the interval.")
    scrape_protocols: list[Protocol] | None = Field(None, description="Formats to request, best first.")
    evaluation_interval: Duration = Field(60.0, description="Accepted for compatibility; there are no rules.")
    rule_query_offset: Duration = Field(0.0, description="Accepted for compatibility; there are no rules.")
    query_log_file: Text = Field("", description="Accepted for compatibility; there are no queries.")
    external_labels: dict[str, Text] = Field({}, description="Labels added to every series that does not have them.")
    metric_name_validation_scheme: Validation = Field("utf8", description="Names that are allowed.")
    scrape_native_histograms: bool | None = Field(
        None, description="Accepted for compatibility; classic histograms are scraped instead."
    )
    convert_classic_histograms_to_nhcb: bool = Field(
        False, description="Accepted for compatibility; classic histograms stay classic."
    )
    always_scrape_classic_histograms: bool = Field(
        False,
        description="Accepted for compatibility; classic histograms are always scraped.",
        validation_alias=AliasChoices("always_scrape_classic_histograms", "scrape_classic_histograms"),
    )


class ScrapeConfig(HttpClientOptions, DiscoveryOptions, Limits):
    """One job. `inherit` fills what is not set from `global`."""

    job_name: Text = Field(description="Name of the job, and value of the label job of its targets.")
    scrape_interval: Duration = Field(0.0, ge=0, description="Time between two scrapes of a target.")
    scrape_timeout: Duration = Field(0.0, ge=0, description="Time for one scrape; at most the interval.")
    scrape_protocols: list[Protocol] | None = Field(None, description="Formats to request, best first.")
    fallback_scrape_protocol: Protocol | Literal[""] = Field(
        "", description="Format of a page without a usable Content-Type; empty: PrometheusText0.0.4."
    )
    honor_labels: bool = Field(False, description="Labels of the page take precedence over labels of the target.")
    honor_timestamps: bool = Field(True, description="Use the timestamps on the page.")
    track_timestamps_staleness: bool = Field(False, description="Write staleness markers also for samples with a timestamp.")
    scrape_native_histograms: bool | None = Field(
        None, description="Accepted for compatibility; classic histograms are scraped instead."
    )
    always_scrape_classic_histograms: bool | None = Field(
        None,
        description="Accepted for compatibility; classic histograms are always scraped.",
        validation_alias=AliasChoices("always_scrape_classic_histograms", "scrape_classic_histograms"),
    )
    convert_classic_histograms_to_nhcb: bool | None = Field(
        None, description="Accepted for compatibility; classic histograms stay classic."
    )
    metrics_path: Text = Field("/metrics", description="Path of the page.")
    scheme: Literal["http", "https"] = Field("http", description="Scheme of the URL.")
    params: Annotated[dict[str, list[Text]], PARAMETERS] = Field({}, description="Query of the URL.")
    enable_compression: bool = Field(True, description="Request gzip.")
    native_histogram_bucket_limit: int = Field(
        0, ge=0, description="Accepted for compatibility; native histograms are not scraped."
    )
    native_histogram_min_bucket_factor: float = Field(
        0.0, ge=0, description="Accepted for compatibility; native histograms are not scraped."
    )
    metric_name_validation_scheme: Validation = Field("", description="Names that are allowed.")
    relabel_configs: list[RelabelConfig] = Field([], description="Rules for the labels of targets.")
    metric_relabel_configs: list[RelabelConfig] = Field([], description="Rules for the labels of samples.")

    @model_validator(mode="after")
    def _checked(self) -> ScrapeConfig:
        if not self.job_name:
            raise ValueError("job_name is empty; set a name")
        _check_protocols(self.scrape_protocols)
        if not self.relabel_configs:
            for group in self.static_configs:
                for target in group.targets:
                    if "/" in target:
                        raise ValueError(
                            f"target {target!r} is not host or host:port; set scheme and path with their own keys "
                            "(scheme, metrics_path)"
                        )
        return self

    def inherit(self, defaults: GlobalConfig) -> None:
        """Fills what is not set from `global`; ValueError if the two do not fit together."""
        self.scrape_interval = self.scrape_interval or defaults.scrape_interval
        if self.scrape_timeout > self.scrape_interval:
            raise ValueError(
                f"job {self.job_name!r}: scrape_timeout ({format_duration(self.scrape_timeout)}) is greater than "
                f"scrape_interval ({format_duration(self.scrape_interval)}); make it smaller"
            )
        self.scrape_timeout = self.scrape_timeout or min(defaults.scrape_timeout, self.scrape_interval)
        for name in (
            "body_size_limit",
            "sample_limit",
            "target_limit",
            "label_limit",
            "label_name_length_limit",
            "label_value_length_limit",
            "keep_dropped_targets",
            "scrape_failure_log_file",
        ):
            if not getattr(self, name):
                setattr(self, name, getattr(defaults, name))
        if self.extra_scrape_metrics is None:
            self.extra_scrape_metrics = bool(defaults.extra_scrape_metrics)
        if self.scrape_protocols is None:
            self.scrape_protocols = list(defaults.scrape_protocols or DEFAULT_PROTOCOLS)
        own = self.metric_name_validation_scheme
        self.metric_name_validation_scheme = own or defaults.metric_name_validation_scheme or "utf8"
        if not self.metric_name_escaping_scheme:
            legacy = self.metric_name_validation_scheme == "legacy"
            inherited = "" if own else defaults.metric_name_escaping_scheme
            self.metric_name_escaping_scheme = inherited or ("underscores" if legacy else "allow-utf-8")
        if self.metric_name_escaping_scheme == "allow-utf-8" and self.metric_name_validation_scheme == "legacy":
            raise ValueError(
                f"job {self.job_name!r}: metric_name_escaping_scheme allow-utf-8 needs metric_name_validation_scheme utf8"
            )
        for rule in (*self.relabel_configs, *self.metric_relabel_configs):
            rule.check_names(self.metric_name_validation_scheme)


def format_duration(seconds: float) -> str:
    """A duration as Prometheus writes it: `1m30s`, `15s`, `1h`, `100ms`."""
    left = round(seconds * 1000)
    if left == 0:
        return "0s"
    out = []
    for unit, size, exact in (
        ("y", 31536000000, True),
        ("w", 604800000, True),
        ("d", 86400000, False),
        ("h", 3600000, False),
        ("m", 60000, False),
        ("s", 1000, False),
        ("ms", 1, False),
    ):
        if left >= size and not (exact and left % size):
            out.append(f"{left // size}{unit}")
            left %= size
    return "".join(out)


def _check_protocols(protocols: list[Protocol] | None) -> None:
    if protocols is not None and not protocols:
        raise ValueError("scrape_protocols is empty; name at least one protocol or remove the key")
    if protocols and len(set(protocols)) != len(protocols):
        raise ValueError("scrape_protocols names a protocol twice")


class PrometheusConfig(ComponentConfig):
    """`config` of the receiver."""

    global_: GlobalConfig = Field(GlobalConfig(), alias="global", description="What jobs inherit.")
    scrape_configs: list[ScrapeConfig] = Field([], description="The jobs.")
    scrape_config_files: list[Text] = Field([], description="Files with more scrape_configs; the last part may have a *.")
    rule_files: list[Any] = Field([], description="Refused: there are no rules.")
    alerting: dict[str, Any] = Field({}, description="Refused: there are no alerts.")
    remote_write: list[Any] = Field([], description="Refused: use the exporter prometheusremotewrite.")
    remote_read: list[Any] = Field([], description="Refused: remote read is not supported.")
    storage: dict[str, Any] = Field({}, description="Accepted for compatibility; nothing is stored.")
    tracing: dict[str, Any] = Field({}, description="Accepted for compatibility; the scraper writes no spans.")
    otlp: dict[str, Any] = Field({}, description="Accepted for compatibility; OTLP has its own receiver.")
    runtime: dict[str, Any] = Field({}, description="Accepted for compatibility; there is no Go runtime.")
    _from_files: list[ScrapeConfig] | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _empty_blocks(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _whole(self) -> PrometheusConfig:
        refused = [name for name in ("rule_files", "alerting", "remote_write", "remote_read") if getattr(self, name)]
        if refused:
            hint = "remove it; a scraper has no rules, alerts or storage (for remote_write use the exporter prometheusremotewrite)"
            raise ConfigErrors(Problem((name,), "is not supported", hint) for name in refused)
        _check_protocols(self.global_.scrape_protocols)
        for i, pattern in enumerate(self.scrape_config_files):
            if not _FILES.match(pattern):
                problem = Problem(("scrape_config_files", i), f"{pattern!r}: * is only allowed in the last part of a path")
                raise ConfigErrors([problem])
        names: set[str] = set()
        for job in self.jobs():
            if job.job_name in names:
                raise ValueError(f"two scrape configs have the job_name {job.job_name!r}; every job needs a unique name")
            names.add(job.job_name)
            job.inherit(self.global_)
        return self

    def jobs(self) -> list[ScrapeConfig]:
        """`scrape_configs` and those of `scrape_config_files`, which are read once."""
        if self._from_files is None:
            found = [_read_jobs(pattern, i) for i, pattern in enumerate(self.scrape_config_files)]
            self._from_files = [job for jobs in found for job in jobs]
        return [*self.scrape_configs, *self._from_files]


def _read_jobs(pattern: str, index: int) -> list[ScrapeConfig]:
    """The jobs in the files of `scrape_config_files[index]`; ConfigErrors with all that is wrong in the first wrong one."""
    jobs: list[ScrapeConfig] = []
    at = ("scrape_config_files", index)
    for path in sorted(glob.glob(pattern)):
        try:
            with open(path, "rb") as file:
                data = yaml.safe_load(file) or {}
            if not isinstance(data, dict) or set(data) - {"scrape_configs"}:
                raise ValueError("the file must have exactly one key, scrape_configs")
            for number, job in enumerate(data.get("scrape_configs") or []):
                try:
                    jobs.append(ScrapeConfig.model_validate(job))
                except ValidationError as error:
                    inside = problems_of(error, ScrapeConfig, node_of(job, Origin()))
                    below = [problem.under(("scrape_configs", number)) for problem in inside]
                    raise ConfigErrors(Problem(at, f"{path}: {problem}") for problem in below) from None
        except OSError as error:
            raise ConfigErrors([Problem(at, f"{path}: {error.strerror}")]) from None
        except ConfigErrors:
            raise
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigErrors([Problem(at, f"{path}: {' '.join(str(error).split())}")]) from None
    return jobs
