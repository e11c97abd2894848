"""Options of the filelog receiver, in upstream's spelling and with upstream's defaults."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ByteSize, ComponentConfig, Duration, StorageId
from kofagent.config.blocks import ConsumerRetryBlock
from kofagent.config.errors import ConfigErrors, Problem
from kofagent.config.re2 import Regexp
from kofagent.operators.chain import notices, validate_operators
from kofagent.receivers.filelog.encodings import lookup
from kofagent.receivers.filelog.globs import Glob
from kofagent.receivers.filelog.ordering import OrderingBlock

MIN_FINGERPRINT = 16


class MultilineBlock(ComponentConfig):
    """`multiline`: where an entry starts or ends when that is not at a newline."""

    line_start_pattern: Regexp = Field("", description="Regular expression (RE2, multi-line mode) of an entry's start.")
    line_end_pattern: Regexp = Field("", description="Regular expression (RE2, multi-line mode) of an entry's end.")
    omit_pattern: bool = Field(False, description="Leave out what the pattern matched.")

    @model_validator(mode="after")
    def _one(self) -> MultilineBlock:
        if self.line_start_pattern and self.line_end_pattern:
            raise ValueError("only one of line_start_pattern and line_end_pattern can be set; remove one")
        return self


class HeaderBlock(ComponentConfig):
    """`header`: lines at the start of a file that describe all its entries and are no entries themselves."""

    pattern: Regexp = Field(description="Regular expression that matches every header line.")
    metadata_operators: list[dict[str, Any]] = Field(description="Operators that turn a header line into attributes.", min_length=1)

    @field_validator("metadata_operators")
    @classmethod
    def _operators(cls, operators: list[dict[str, Any]]) -> list[dict[str, Any]]:
        filters = [i for i, operator in enumerate(operators) if operator.get("type") == "filter"]
        if filters:
            raise ConfigErrors(Problem((i, "type"), "a filter is not allowed here", "remove it") for i in filters)
        validate_operators(operators)
        return operators

    def notices(self) -> Iterable[Problem]:
        """Keys of operators without effect."""
        return [problem.under(("metadata_operators",)) for problem in notices(self.metadata_operators)]


class Config(ComponentConfig):
    """Tails files: every line (or multi-line entry) becomes a log record."""

    id: str = Field("", description="Accepted for compatibility; operators have it.")
    type: str = Field("", description="Accepted for compatibility; operators have it.")
    include: list[str] = Field(description="Globs of the files to read (`*`, `**`, `?`, `[a-z]`, `{a,b}`).", min_length=1)
    exclude: list[str] = Field([], description="Globs of paths to leave out.")
    link_targets: list[str] | None = Field(
        None,
        description="Directories with files that links may lead to, besides those that include names up to its first wildcard; "
        "what is elsewhere is not read. Not set: any file, as upstream; in KOF's values /var/lib/docker/containers.",
    )
    exclude_older_than: Duration = Field(0.0, description="Leave out files not modified for this long; 0: none.")
    ordering_criteria: OrderingBlock = Field(OrderingBlock(), description="Read only the first files of an order.")
    start_at: Literal["beginning", "end"] = Field("end", description="Where to start in files that are there at start.")
    multiline: MultilineBlock = Field(MultilineBlock(), description="Entries of several lines.")
    force_flush_period: Duration = Field(0.5, ge=0, description="Send a partial last entry after this long; 0: never.")
    encoding: str = Field("utf-8", description="Encoding of the files; nop: raw bytes, not split.")
    preserve_leading_whitespaces: bool = Field(False, description="Keep white space at the start of an entry.")
    preserve_trailing_whitespaces: bool = Field(False, description="Keep white space at the end of an entry.")
    include_file_name: bool = Field(True, description="Attribute log.file.name.")
    include_file_path: bool = Field(False, description="Attribute log.file.path.")
    include_file_name_resolved: bool = Field(False, description="Attribute log.file.name_resolved (links followed).")
    include_file_path_resolved: bool = Field(False, description="Attribute log.file.path_resolved (links followed).")
    include_file_owner_name: bool = Field(False, description="Attribute log.file.owner.name.")
    include_file_owner_group_name: bool = Field(False, description="Attribute log.file.owner.group.name.")
    include_file_permissions: bool = Field(False, description="Attribute log.file.permissions, such as 644.")
    include_file_record_number: bool = Field(False, description="Attribute log.file.record_number, from 1.")
    include_file_record_offset: bool = Field(False, description="Attribute log.file.record_offset, in bytes.")
    poll_interval: Duration = Field(0.2, gt=0, description="How often the files are looked at.")
    fingerprint_size: ByteSize = Field(1000, ge=MIN_FINGERPRINT, description="Bytes at the start of a file that identify it.")
    initial_buffer_size: ByteSize = Field(16384, description="Accepted for compatibility; reads are 128 KiB.")
    max_log_size: ByteSize = Field(1048576, gt=0, description="Longest entry, in bytes.")
    max_log_size_behavior: Literal["split", "truncate"] = Field(
        "split", description="A longer entry becomes several, or loses its rest."
    )
    max_concurrent_files: int = Field(1024, ge=1, description="Files open at once.")
    max_batches: int = Field(0, ge=0, description="At most this many times max_concurrent_files/2 files per poll; 0: all.")
    delete_after_read: bool = Field(False, description="Delete a file once it is read and its entries are taken.")
    acquire_fs_lock: bool = Field(False, description="Read a file only while holding a shared lock (flock) on it.")
    file_cache_advise: bool = Field(False, description="Tell the kernel that pages once read are not needed again.")
    skip_unmodified_files: bool = Field(False, description="Accepted for compatibility; unchanged files are never read.")
    attributes: dict[str, str] = Field({}, description="Attributes of every entry; values may be EXPR(...).")
    resource: dict[str, str] = Field({}, description="Resource attributes of every entry; values may be EXPR(...).")
    operators: list[dict[str, Any]] = Field([], description="Stanza operators.")
    storage: StorageId | None = Field(None, description="Storage extension that keeps file offsets across restarts.")
    header: HeaderBlock | None = Field(None, description="Header lines.")
    retry_on_failure: ConsumerRetryBlock = Field(ConsumerRetryBlock(), description="When the pipeline refuses a batch.")
    compression: Literal["", "gzip", "auto"] = Field(
        "", description="Which files are read as gzip; empty: none; gzip: all; auto: those that are compressed."
    )
    polls_to_archive: int = Field(0, ge=0, description="Remember this many more files that are gone (with storage).")
    on_truncate: Literal["", "ignore", "read_whole_file", "read_new"] = Field(
        "",
        description="A file that shrank but starts as before: wait until it outgrows its old size, read it all again, "
        "or read what is new. Not set: read_whole_file when it was truncated in place, else ignore.",
    )

    @field_validator("include", "exclude")
    @classmethod
    def _globs(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            Glob(pattern)
        return patterns

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, name: str) -> str:
        lookup(name)
        return name

    @field_validator("operators")
    @classmethod
    def _operators(cls, operators: list[dict[str, Any]]) -> list[dict[str, Any]]:
        validate_operators(operators)
        return operators

    def notices(self) -> Iterable[Problem]:
        """Keys of operators without effect."""
        return [problem.under(("operators",)) for problem in notices(self.operators)]

    @model_validator(mode="after")
    def _together(self) -> Config:
        for option in ("delete_after_read", "header"):
            if getattr(self, option) and self.start_at == "end":
                raise ValueError(f"{option} cannot be used with start_at: end; set start_at: beginning")
        if lookup(self.encoding).whole and (self.multiline.line_start_pattern or self.multiline.line_end_pattern):
            raise ValueError("multiline cannot be used with encoding: nop; remove one of them")
        return self
