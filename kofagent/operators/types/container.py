"""`container`: parses lines of container runtimes: Docker's JSON, CRI-O and containerd.

Without `format` the format is found for each line; `crio` and `containerd` are two names of one format, for either writes times in
UTC or with the offset of its node. The time becomes the entry's, the message the body, the stream `log.iostream`; `logtag` stays,
as upstream leaves it. Partial lines (`P`, and Docker's without a newline at the end) are joined per path and stream (upstream: per
path, and Docker's not at all) up to `max_log_size`, keeping the first line's time, tag and trailing spaces; a character that the
runtime cut is whole again. The newline at the end of Docker's is no part of the body. Resource attributes come from the path of the
file. Spec: contrib's docs/operators/container.md.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field as Option

from kofagent.config.base import ByteSize
from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import ATTRIBUTES, BODY, MISSING
from kofagent.operators.json_text import decode_json
from kofagent.operators.line_formats import PARTIAL, LineParser
from kofagent.operators.operator import Run
from kofagent.operators.parser import Parser, ParserConfig, text_of
from kofagent.operators.series import Series
from kofagent.operators.text import bytes_of, whole
from kofagent.operators.timelayout import TimeError, gotime_layout, location_of

FORCE_FLUSH_NS = 5_000_000_000
_CRI = re.compile(r"(?P<time>[^ ]+) (?P<stream>stdout|stderr) (?P<logtag>[^ ]*+) ?+(?P<log>[^\n]*)")
_PATH = re.compile(
    r".*[/\\](?P<namespace>[^_/\\]+)_(?P<pod_name>[^_]+)_(?P<uid>[a-f0-9-]+)[/\\](?P<container_name>[^._]+)[/\\]"
    r"(?P<restart_count>[0-9]+)\.log(\.[0-9]{8}-[0-9]{6}(\.gz)?)?"
)
_RESOURCE = {
    "container_name": "k8s.container.name",
    "namespace": "k8s.namespace.name",
    "pod_name": "k8s.pod.name",
    "restart_count": "k8s.container.restart_count",
    "uid": "k8s.pod.uid",
}
_LAYOUT = gotime_layout("2006-01-02T15:04:05.999999999Z07:00", location_of("UTC", ""), {})


class Config(ParserConfig):
    """Options of container."""

    format: Literal["docker", "crio", "containerd", ""] = Option("", description="Format of the lines; empty: found for each line.")
    add_metadata_from_filepath: bool = Option(True, description='Set resource attributes from attributes["log.file.path"].')
    max_log_size: ByteSize = Option(
        1024 * 1024, ge=0, description="Maximum size of a message joined from partial lines, in bytes; 0: no limit."
    )


class Container(Parser[Config]):
    """Parses lines and joins partial ones."""

    holds = True

    def parse(self, value: Any, entry: Entry) -> Any:
        text = text_of(value)
        if self.config.format == "docker" or (not self.config.format and text.startswith("{")):
            found = decode_json(text)
            if not isinstance(found, dict):
                raise OperatorError("the line is not a JSON object")
            return found
        match = _CRI.fullmatch(text)
        if match is None:
            raise OperatorError("the line is not in a known container format")
        return match.groupdict()

    def process(self, entry: Entry, run: Run) -> None:
        try:
            if self.skipped(entry):
                joins = docker = False
            else:
                joins, docker = True, self._is_docker(entry)
                self.transform(entry)
                self._finish(entry)
        except Exception as error:
            self.handle(entry, error, run)
            return
        if joins:
            self._join(entry, docker, run)
        else:
            self.write(entry, run)

    def _is_docker(self, entry: Entry) -> bool:
        """Whether the line is parsed as Docker's."""
        if self.config.format:
            return self.config.format == "docker"
        line = self.config.parse_from.get(entry)
        return isinstance(line, str) and line.startswith("{")

    def _finish(self, entry: Entry) -> None:
        attributes = entry.attributes
        time = attributes.get("time", MISSING)
        if not isinstance(time, str):
            raise OperatorError("the line has no time")
        try:
            entry.timestamp = _LAYOUT.parse(time)
        except TimeError as error:
            raise OperatorError(f"time: {error}") from None
        del attributes["time"]
        if "log" not in attributes:
            raise OperatorError("the line has no log")
        body = attributes.pop("log")
        if isinstance(body, dict):
            entry.body = entry.body if isinstance(entry.body, dict) else {}
            entry.body.update(body)
        else:
            entry.body = body
        if "stream" not in attributes:
            raise OperatorError("the line has no stream")
        attributes["log.iostream"] = attributes.pop("stream")
        if self.config.add_metadata_from_filepath:
            self.add_metadata(entry)

    @staticmethod
    def add_metadata(entry: Entry) -> None:
        """Resource attributes from the file's path; OperatorError without one that fits."""
        path = entry.attributes.get("log.file.path")
        if not isinstance(path, str):
            raise OperatorError(
                'attributes["log.file.path"] is missing; set include_file_path, or turn add_metadata_from_filepath off'
            )
        match = _PATH.fullmatch(path)
        if match is None:
            raise OperatorError("the path is not that of a pod log file")
        for group, name in _RESOURCE.items():
            entry.resource[name] = match[group]

    def _join(self, entry: Entry, docker: bool, run: Run) -> None:
        if docker:
            text = entry.body
            if not isinstance(text, str):
                self.write(entry, run)
                return
            last = text.endswith("\n")
            if last:
                entry.body = text[:-1].removesuffix("\r")
        else:
            last = not _is_partial(entry.attributes.get("logtag"))
        state = run.state(self)
        if last and not state:
            self.write(entry, run)
            return
        key = entry.attributes.get("log.iostream")
        key = key if isinstance(key, str) else ""
        series = state.get(key)
        if series is None:
            if last:
                self.write(entry, run)
                return
            series = state[key] = Series(entry)
        series.add(run)
        text = entry.body if isinstance(entry.body, str) else ""
        series.parts.append(text)
        series.size += len(bytes_of(text))
        if last or (self.config.max_log_size and series.size > self.config.max_log_size):
            self._hand_out(key, run)

    def _hand_out(self, key: Any, run: Run) -> None:
        series = run.state(self).pop(key)
        series.base.body = whole("".join(series.parts))
        self.write(series.base, run)

    def flush(self, run: Run, now: int, force: bool) -> None:
        for key, series in list(run.state(self).items()):
            if force or now - series.first_observed >= FORCE_FLUSH_NS:
                self._hand_out(key, run)

    def joins(self, line: bytes, waiting: bool) -> bool:
        return waiting or PARTIAL.match(line) is not None

    def line_parser(self) -> LineParser | None:
        config = self.config
        plain = config.if_ is None and config.body is None and config.parse_from == BODY and config.parse_to == ATTRIBUTES
        if not plain or self.blocks:
            return None
        return LineParser(config.format, self.add_metadata if config.add_metadata_from_filepath else lambda entry: None)


def _is_partial(tag: Any) -> bool:
    """Whether a line with this tag is not the last one of its message: the first of the tags is P, as the kubelet reads it."""
    return isinstance(tag, str) and tag.partition(":")[0] == "P"


OPERATOR = Container
