"""Options of the journald receiver, in upstream's spelling and with upstream's defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from kofagent.config.base import ComponentConfig, Duration, StorageId
from kofagent.config.blocks import ConsumerRetryBlock
from kofagent.config.errors import ConfigErrors, Problem
from kofagent.config.re2 import Regexp
from kofagent.operators.chain import notices, validate_operators
from kofagent.receivers.journald.matches import priorities
from kofagent.receivers.journald.units import pattern, unit_name

_FIELD = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_NAMESPACE = re.compile(r"\*|\+?[^/\0]{1,200}")


class RetryBlock(ConsumerRetryBlock):
    """`retry_on_failure`: what happens when the pipeline does not take a batch for now. The entries are still in the journal."""

    enabled: bool = Field(True, description="Offer the batch again (upstream: false); false: it is dropped and counted.")
    max_elapsed_time: Duration = Field(0.0, description="Give up after this, and count it (upstream: 5m); 0: never.")


class Config(ComponentConfig):
    """Reads the journal of systemd: every entry becomes a log record."""

    id: str = Field("", description="Accepted for compatibility; operators have it.")
    type: str = Field("", description="Accepted for compatibility; operators have it.")
    directory: str | None = Field(
        None,
        description="Directory with the files of the journal, and with directories of machines. Not set: /var/log/journal and "
        "/run/log/journal.",
    )
    files: list[str] = Field(
        [], description="Files to read instead of a directory; globs, rotated files included where they match."
    )
    start_at: Literal["beginning", "end"] = Field(
        "end",
        description="Where to start when nothing was stored: with all entries there are, or with those that come from now on.",
    )
    units: list[str] = Field(
        [], description="Only entries of these units, and what systemd says about them. ssh is ssh.service; globs."
    )
    identifiers: list[str] = Field([], description="Only entries with one of these SYSLOG_IDENTIFIERs.")
    priority: str = Field(
        "info",
        description="Only entries of this priority or more urgent: emerg, alert, crit, err, warning, notice, info, debug or 0 to "
        "7; or of a range, as emerg..err. debug: all, also those without a priority.",
    )
    grep: Regexp = Field(
        "",
        description="Only entries whose MESSAGE matches this regular expression (RE2), upper case or lower unless it has capitals.",
    )
    matches: list[dict[str, str]] = Field(
        [], description="Only entries that have all fields of one of these maps, field name to value."
    )
    dmesg: bool = Field(
        False,
        description="Only messages of the kernel, and of what is there at the start without a stored position only this boot's.",
    )
    all: bool = Field(
        False, description="Values of 4096 bytes or more, name included, as they are; false: null, as journalctl. Up to 4 MiB."
    )
    namespace: str = Field(
        "", description="Journal namespace: a name, +name for it and the default, * for all. Empty: the default."
    )
    merge: bool = Field(False, description="The journals of all machines below the directories, not only of this one.")
    convert_message_bytes: bool = Field(
        False, description="A MESSAGE that is not printable UTF-8 becomes text; false: a list of its bytes as numbers."
    )
    convert_to_semantic_conventions: bool = Field(
        False,
        description="The body is the MESSAGE, the severity the PRIORITY, and other fields are attributes and resource attributes.",
    )
    root_path: str = Field("", description="Directory below which all paths are, such as that of a mounted host.")
    journalctl_path: str = Field("journalctl", description="Accepted for compatibility; the files are read without journalctl.")
    attributes: dict[str, str] = Field({}, description="Attributes of every entry; values may be EXPR(...).")
    resource: dict[str, str] = Field({}, description="Resource attributes of every entry; values may be EXPR(...).")
    operators: list[dict[str, Any]] = Field([], description="Stanza operators.")
    storage: StorageId | None = Field(None, description="Storage extension that keeps the position across restarts.")
    retry_on_failure: RetryBlock = Field(RetryBlock(), description="When the pipeline refuses a batch.")

    @field_validator("operators")
    @classmethod
    def _operators(cls, operators: list[dict[str, Any]]) -> list[dict[str, Any]]:
        validate_operators(operators)
        return operators

    @field_validator("units")
    @classmethod
    def _units(cls, units: list[str]) -> list[str]:
        for unit in units:
            pattern(unit_name(unit))
        return units

    @field_validator("priority")
    @classmethod
    def _priority(cls, priority: str) -> str:
        priorities(priority)
        return priority

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, namespace: str) -> str:
        if namespace and not _NAMESPACE.fullmatch(namespace):
            raise ValueError(f"{namespace!r} cannot be a namespace; write a name, +name or *")
        return namespace

    @field_validator("matches")
    @classmethod
    def _matches(cls, matches: list[dict[str, str]]) -> list[dict[str, str]]:
        bad = [(i, key) for i, match in enumerate(matches) for key in match if not _FIELD.fullmatch(key)]
        if bad:
            raise ConfigErrors(
                Problem((i, key), f"{key!r} cannot be a field of the journal", "write capitals, digits and _") for i, key in bad
            )
        return matches

    @model_validator(mode="after")
    def _paths(self) -> Config:
        if not self.journalctl_path.strip():
            raise ValueError("journalctl_path must not be blank; remove it")
        if self.root_path:
            if not self.root_path.startswith("/"):
                raise ValueError(f"root_path must be an absolute path, not {self.root_path!r}")
            if "journalctl_path" in self.model_fields_set and not self.journalctl_path.startswith("/"):
                raise ValueError(f"journalctl_path must be an absolute path where root_path is set, not {self.journalctl_path!r}")
        return self

    def notices(self) -> Iterable[Problem]:
        """Options that do nothing beside others, and keys of operators without effect."""
        out = [problem.under(("operators",)) for problem in notices(self.operators)]
        if self.directory is not None and self.files:
            out.append(Problem(("files",), "has no effect beside directory", "remove one of them", warning=True))
        elif self.files and self.namespace:
            out.append(Problem(("namespace",), "has no effect beside files", "remove one of them", warning=True))
        return out
