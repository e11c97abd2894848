"""`ordering_criteria`: which of the files found are read, and in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.config.re2 import Regexp, compile_re2
from kofagent.operators.timelayout import Layout, location_of, strptime_layout


def time_layout(layout: str, location: str) -> Layout:
    """A strptime layout read in a time zone (empty: UTC); ValueError for an unknown directive or zone."""
    return strptime_layout(layout, location_of(location or "UTC", layout), {})


class SortBlock(ComponentConfig):
    """One entry of `ordering_criteria.sort_by`."""

    sort_type: Literal["numeric", "alphabetical", "timestamp", "mtime"] = Field(
        description="What the capture is compared as; mtime: the file's modification time."
    )
    regex_key: str = Field("", description="Named capture group of ordering_criteria.regex.")
    ascending: bool = Field(False, description="Sort in ascending order.")
    layout: str = Field("", description="strptime layout, for timestamp.")
    format: str = Field("", description="Other name of layout.")
    location: str = Field("", description="Time zone of the timestamp; empty: UTC.")

    @model_validator(mode="after")
    def _needs(self) -> SortBlock:
        self.layout = self.layout or self.format
        if self.sort_type != "mtime" and not self.regex_key:
            raise ValueError("regex_key must be set; name a capture group of ordering_criteria.regex")
        if self.sort_type == "timestamp" and not self.layout:
            raise ValueError("layout must be set for sort_type timestamp, such as '%Y%m%d%H'")
        if self.sort_type == "timestamp":
            time_layout(self.layout, self.location)
        return self


class OrderingBlock(ComponentConfig):
    """`ordering_criteria`: read only the first files of an order."""

    regex: Regexp = Field("", description="Regular expression on the path whose named groups the sort keys use.")
    top_n: int | None = Field(None, ge=0, description="How many files to read; 0: all; not set: 1 when sort_by is set.")
    sort_by: list[SortBlock] = Field([], description="Sort keys, applied one after the other.")
    group_by: Regexp = Field("", description="Regular expression; top_n counts for each value of its first group.")

    @model_validator(mode="after")
    def _check(self) -> OrderingBlock:
        if self.regex:
            names = compile_re2(self.regex).groupindex
            for sort in self.sort_by:
                if sort.regex_key and sort.regex_key not in names:
                    raise ValueError(f"regex_key {sort.regex_key!r} is not a named group of ordering_criteria.regex")
        elif any(s.sort_type != "mtime" for s in self.sort_by):
            raise ValueError("ordering_criteria.regex must be set when sort_by uses a regex_key")
        return self


class Ordering:
    """Applies the sort keys one after the other (each sort is stable), then takes the first `top_n` of every group."""

    def __init__(self, config: OrderingBlock) -> None:
        self._sort = [(s, _key(s)) for s in config.sort_by]
        self._regex = compile_re2(config.regex) if config.regex else None
        self._group = compile_re2(config.group_by) if config.group_by and config.sort_by else None
        self._top = (1 if config.top_n is None else config.top_n) if config.sort_by else 0

    def choose(self, paths: list[str]) -> list[str]:
        """The paths to read, in order. A path the regular expression or a sort key cannot read is left out."""
        if not self._sort:
            return paths
        groups: dict[str, list[str]] = {}
        if self._group is None:
            groups[""] = paths
        else:
            for path in paths:
                match = self._group.search(path)
                if match is not None and match.groups():
                    groups.setdefault(match.group(1) or "", []).append(path)
        return [path for group in groups.values() for path in self._sorted(group)]

    def _sorted(self, paths: list[str]) -> list[str]:
        items: list[tuple[str, dict[str, Any]]] = []
        for path in paths:
            if self._regex is None:
                items.append((path, {}))
                continue
            match = self._regex.search(path)
            if match is not None:
                items.append((path, match.groupdict()))
        for sort, key in self._sort:
            keyed = []
            for path, captures in items:
                try:
                    keyed.append((key(path, captures), path, captures))
                except (ValueError, OSError):
                    continue
            keyed.sort(key=lambda item: item[0], reverse=not sort.ascending)
            items = [(path, captures) for _, path, captures in keyed]
        chosen = [path for path, _ in items]
        return chosen[: self._top] if self._top else chosen


def _key(sort: SortBlock) -> Callable[[str, dict[str, Any]], Any]:
    name = sort.regex_key
    if sort.sort_type == "numeric":
        return lambda path, captures: int(captures.get(name) or "")
    if sort.sort_type == "alphabetical":
        return lambda path, captures: captures.get(name) or ""
    if sort.sort_type == "mtime":
        return lambda path, captures: os.stat(path).st_mtime_ns
    layout = time_layout(sort.layout, sort.location)
    return lambda path, captures: layout.parse(captures.get(name) or "")
