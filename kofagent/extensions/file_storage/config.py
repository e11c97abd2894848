"""Options of the `file_storage` extension."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration


class CompactionBlock(ComponentConfig):
    """`compaction`: return free space to the file system."""

    on_start: bool = Field(False, description="Compact a file when its component opens it.")
    on_rebound: bool = Field(False, description="Compact a file that has grown large once most of it is free again.")
    directory: str = Field("", description="Accepted for compatibility; files are compacted in place.")
    rebound_needed_threshold_mib: int = Field(100, ge=0, description="Size that a file must have reached, MiB.")
    rebound_trigger_threshold_mib: int = Field(10, ge=0, description="Used space at or below which it is compacted, MiB.")
    max_transaction_size: int = Field(65536, ge=0, description="Accepted for compatibility.")
    check_interval: Duration = Field(5.0, ge=0, description="How often the sizes are checked.")
    cleanup_on_start: bool = Field(False, description="Accepted for compatibility; there are no temporary files.")


class Config(ComponentConfig):
    """Options of upstream's file_storage extension."""

    directory: str = Field("/var/lib/otelcol/file_storage", min_length=1, description="Directory of the files.")
    timeout: Duration = Field(1.0, ge=0, description="How long to wait for a file that another process is using.")
    compaction: CompactionBlock = Field(CompactionBlock(), description="Compaction.")
    fsync: bool = Field(False, description="Survive power failures, at the cost of speed.")
    create_directory: bool = Field(False, description="Create the directory at start.")
    directory_permissions: str = Field("0750", description="Permissions of a created directory, octal.")
    recreate: bool = Field(False, description="Move a damaged file aside and start with an empty one instead of failing.")

    @field_validator("directory_permissions", mode="after")
    @classmethod
    def _octal(cls, value: str) -> str:
        if not re.fullmatch(r"0?[0-7]{3}", value):
            raise ValueError(f'{value!r} must be octal permissions, such as "0750"')
        return value

    @model_validator(mode="after")
    def _thresholds(self) -> Config:
        block = self.compaction
        if block.on_rebound and block.rebound_trigger_threshold_mib > block.rebound_needed_threshold_mib:
            raise ValueError("compaction: rebound_trigger_threshold_mib is above rebound_needed_threshold_mib")
        return self
