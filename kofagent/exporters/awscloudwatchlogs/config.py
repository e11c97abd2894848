"""Options of the `awscloudwatchlogs` exporter."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Secret
from kofagent.config.blocks import QueueBlock, RetryBlock

RETENTIONS = (0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
_TAG = re.compile(r"[\w\s.:/=+\-@]*\Z")


class Config(ComponentConfig):
    """Options of upstream's awscloudwatchlogs exporter."""

    log_group_name: str = Field(description="Log group; created when it does not exist.", min_length=1, max_length=512)
    log_stream_name: str = Field(
        description="Log stream in the group; created when it does not exist.", min_length=1, max_length=512
    )
    region: str = Field("", description="AWS region; empty: AWS_REGION, the profile's, or the instance's.")
    endpoint: str = Field("", description="Service endpoint, host or URL; empty: the one of the region.")
    log_retention: int = Field(0, description="Days that a newly created group keeps its events; 0: forever.")
    tags: dict[str, str | None] = Field({}, description="Tags of a newly created group, at most 50.")
    raw_log: bool = Field(False, description="Send only the body, as the embedded metric format requires.")
    max_event_payload_bytes: int = Field(
        0,
        ge=0,
        description="Size of a message, with the 26 bytes that CloudWatch adds to it, beyond which it is shortened: 41 to 1048576; "
        "0: what CloudWatch takes, 1 MiB (upstream: 256 KiB).",
    )
    sending_queue: QueueBlock = Field(QueueBlock(), description="Queue of batches to send.")
    retry_on_failure: RetryBlock = Field(RetryBlock(), description="Retries.")
    role_arn: str = Field("", description="IAM role to assume.")
    external_id: str = Field("", description="External ID for assuming the role.")
    profile: str = Field("", description="Profile of the shared AWS files.")
    shared_credentials_file: list[str] = Field([], description="Shared credentials file; the first one is read.")
    imds_retries: int = Field(1, ge=0, description="Retries of the instance metadata service.")
    local_mode: bool = Field(False, description="Do not use the instance metadata service.")
    resource_arn: str = Field("", description="Accepted for compatibility; upstream uses it for X-Ray only.")
    max_retries: int = Field(2, ge=0, description="Quick retries of one call when throttled, before retry_on_failure.")
    request_timeout_seconds: int = Field(30, ge=0, description="Timeout of one call, seconds.")
    num_workers: int = Field(8, ge=1, description="Connections open at the same time.")
    no_verify_ssl: bool = Field(False, description="Do not verify the service's certificate.")
    certificate_file_path: str = Field("", description="PEM file of the trusted CAs.")
    proxy_address: Secret = Field(Secret(""), description="URL of a proxy; empty: HTTPS_PROXY and NO_PROXY apply.")

    @field_validator("log_group_name", "log_stream_name", mode="after")
    @classmethod
    def _name(cls, value: str, info: Any) -> str:
        if info.field_name == "log_stream_name" and re.search(r"[:*]", value):
            raise ValueError("a stream name must not contain : or *")
        if info.field_name == "log_group_name" and not re.fullmatch(r"[.\-_/#A-Za-z0-9]+", value):
            raise ValueError("a group name may contain only letters, digits and . - _ / #")
        return value

    @field_validator("max_event_payload_bytes", mode="after")
    @classmethod
    def _event_size(cls, value: int) -> int:
        if value and not 41 <= value <= 1 << 20:
            raise ValueError("must be 0, or between 41 and 1048576, the largest event that CloudWatch takes")
        return value

    @field_validator("log_retention", mode="after")
    @classmethod
    def _retention(cls, value: int) -> int:
        if value not in RETENTIONS:
            nearest = min(RETENTIONS, key=lambda r: abs(r - value))
            raise ValueError(f"AWS does not support a retention of {value} days; the nearest is {nearest}")
        return value

    @model_validator(mode="after")
    def _tags(self) -> Config:
        if len(self.tags) > 50:
            raise ValueError("at most 50 tags")
        for key, value in self.tags.items():
            if not 1 <= len(key) <= 128 or not _TAG.match(key):
                raise ValueError(f"tag {key!r}: a key must have 1 to 128 letters, digits, spaces and . : / = + - @ _")
            if value is not None and (len(value) > 256 or not _TAG.match(value)):
                raise ValueError(f"tag {key!r}: a value must have at most 256 letters, digits, spaces and . : / = + - @ _")
        return self
