"""Options of the `file` exporter."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration


class RotationBlock(ComponentConfig):
    """`rotation`: rename a file that has grown large and start a new one."""

    max_megabytes: int = Field(100, ge=0, description="Size at which a file is rotated, MiB; 0: 100.")
    max_days: int = Field(0, ge=0, description="Days to keep rotated files; 0: forever.")
    max_backups: int = Field(100, ge=0, description="Number of rotated files to keep; 0: all.")
    localtime: bool = Field(False, description="Use local time instead of UTC in the names of rotated files.")


class GroupBy(ComponentConfig):
    """`group_by`: one file per value of a resource attribute."""

    enabled: bool = Field(False, description="Replace the * in path with the value of resource_attribute.")
    resource_attribute: str = Field("fileexporter.path_segment", description="Resource attribute that has that part of the path.")
    max_open_files: int = Field(100, ge=1, description="Files open at the same time.")


class Config(ComponentConfig):
    """Options of upstream's file exporter."""

    path: str = Field(description="File to write, with one * for group_by.", min_length=1)
    format: Literal["json", "proto"] = Field("json", description="OTLP/JSON lines or length-prefixed OTLP protobuf.")
    append: bool = Field(False, description="Append to an existing file; false: truncate it at start.")
    rotation: RotationBlock | None = Field(None, description="Rotation; default: none.")
    compression: Literal["", "none", "zstd"] = Field("", description="Compression of the file, a frame a message.")
    compression_params: dict[str, int] = Field({}, description="level: the compression level.")
    flush_interval: Duration = Field(1.0, ge=0, description="How often files are synced to the disk.")
    group_by: GroupBy = Field(GroupBy(), description="One file per value of a resource attribute.")
    encoding: str | None = Field(None, description="Accepted only when absent: encoding extensions are not supported.")
    create_directory: bool = Field(False, description="Create the directory of path at start.")
    directory_permissions: str = Field("0755", description="Permissions of created directories, octal.")

    @field_validator("encoding", mode="after")
    @classmethod
    def _no_encoding(cls, value: str | None) -> None:
        if value:
            raise ValueError("encoding extensions are not supported; use format: json or proto")

    @field_validator("directory_permissions", mode="after")
    @classmethod
    def _octal(cls, value: str) -> str:
        if not re.fullmatch(r"0?[0-7]{3}", value):
            raise ValueError(f'{value!r} must be octal permissions, such as "0755"')
        return value

    @field_validator("rotation", mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        # `rotation:` with nothing behind it asks for the defaults, as upstream.
        return {} if value is None else value

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if "\0" in self.path:
            raise ValueError("path cannot contain a NUL character; remove it")
        if self.group_by.enabled and (self.path.count("*") != 1 or self.path.startswith("*")):
            raise ValueError("group_by needs exactly one * in path, and not at its start")
        return self
