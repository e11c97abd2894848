"""The agent's own log (`service.telemetry.logs`): one line per event, on standard error, standard output or in files."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from kofagent.component.protocols import StartError
from kofagent.config.model import LogSampling, TelemetryLogs
from kofagent.config.redact import without_secrets
from kofagent.memory.memo import Memo

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "dpanic": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
_WORDS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error", logging.CRITICAL: "fatal"}
FAILURES_EVERY_S = 60.0
_CONTROL = [*range(32), 127, *range(128, 160), 0x2028, 0x2029]
_IN_TEXT = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in _CONTROL if code not in (9, 10)}
_IN_TEXT[13] = "\\r"
"""Control characters of C0 and C1 would be obeyed by the terminal of whoever reads the log."""
_IN_JSON = {code: f"\\u{code:04x}" for code in _CONTROL if code >= 127}


class LineFormatter(logging.Formatter):
    """An event as one line; line ends inside it become `\\n`, with `extra={"multiline": True}` indented lines.

    Times are UTC, RFC 3339, milliseconds.
    """

    def __init__(self, options: TelemetryLogs) -> None:
        super().__init__()
        self._json = options.encoding == "json"
        self._traceback = not options.disable_stacktrace
        self._caller = options.development and not options.disable_caller
        self._fields = dict(options.initial_fields)
        self._tail = " " + json.dumps(self._fields, ensure_ascii=False, default=str) if self._fields else ""

    def format(self, record: logging.LogRecord) -> str:
        """As `logging.Formatter.format`."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        level = _WORDS.get(record.levelno, record.levelname.lower())
        name = record.name.removeprefix("kofagent.")
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)  # a wrong log call must not lose the event
        telemetry = getattr(record, "multiline", False)
        if "//" in message and not telemetry:
            message = without_secrets(message)
        trace = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        if trace and not self._traceback:
            trace = trace.rpartition("\n")[2]
        caller = f"{record.filename}:{record.lineno}" if self._caller else ""
        if self._json:
            event: dict[str, Any] = {"ts": at, "level": level, "logger": name, "msg": message}
            if caller:
                event["caller"] = caller
            if trace:
                event["stacktrace"] = trace
            return json.dumps({**event, **self._fields}, ensure_ascii=False, default=str).translate(_IN_JSON)
        text = f"{at} {level} {name}: {caller + ': ' if caller else ''}{message}{self._tail}"
        if trace:
            text += "\n" + trace
        # The debug exporter's trees stay trees; text from telemetry cannot pass for a line of the agent, because it is indented.
        end = "\n    " if telemetry else "\\n"
        return text.translate(_IN_TEXT).replace("\n", end)


class Sampling(logging.Filter):
    """Passes the first few events with the same text of each interval, then every n-th."""

    def __init__(self, options: LogSampling) -> None:
        super().__init__()
        self._options = options
        self._counts: Memo[tuple[int, str, str], int] = Memo("own_log.messages", entries=8192, size=4 << 20)
        self._until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """As `logging.Filter.filter`."""
        now = time.monotonic()
        if now >= self._until:
            self._counts.clear()
            self._until = now + self._options.tick
        key = (record.levelno, record.name, str(record.msg))
        count = self._counts[key] = (self._counts.find(key) or 0) + 1
        over = count - self._options.initial
        return over <= 0 or (self._options.thereafter > 0 and over % self._options.thereafter == 0)


class Failures:
    """Errors of writing the log, a line each on `error_output_paths`, at most one a minute for each output."""

    def __init__(self) -> None:
        self._outputs: list[logging.Handler] = []
        self._said: dict[str, float] = {}

    def open(self, paths: Sequence[str]) -> None:
        """Opens the outputs; OSError when a file cannot be written."""
        for path in paths:
            output = _handler(path)
            output.setFormatter(LineFormatter(TelemetryLogs()))
            self._outputs.append(output)

    def close(self) -> None:
        """Closes the outputs."""
        for output in self._outputs:
            output.close()
        self._outputs = []

    def say(self, name: str, error: BaseException | None) -> None:
        """An event could not be written to the output `name`."""
        now = time.monotonic()
        if now < self._said.get(name, float("-inf")) + FAILURES_EVERY_S:
            return
        self._said[name] = now
        why = getattr(error, "strerror", None) or error
        record = logging.LogRecord("log", logging.ERROR, "", 0, "cannot write to %s: %s; events are lost", (name, why), None)
        for output in self._outputs:
            output.handle(record)


class OwnLog:
    """Configures Python's logging between `start` and `stop`."""

    def __init__(self, options: TelemetryLogs, levels: Mapping[str, str] | None = None) -> None:
        """`levels` are those of several collectors by their names, whose components log below these; the rest is the options'."""
        self._options = options
        self._levels = {f"kofagent.{collector}": LEVELS[level.lower()] for collector, level in (levels or {}).items()}
        self._failures = Failures()
        self._handlers: list[logging.Handler] = []
        self._before: dict[str, int] = {}
        self._silenced: list[logging.Handler] = []

    def start(self) -> None:
        """Opens the outputs; StartError when a file cannot be written."""
        options = self._options
        option = "output_paths"
        try:
            for path in options.output_paths:
                self._handlers.append(_handler(path, self._failures))
            option = "error_output_paths"
            self._failures.open(options.error_output_paths)
        except OSError as error:
            self._close()
            raise StartError(
                f"telemetry.logs.{option}: cannot write {error.filename}: {error.strerror or error}; name a file in a "
                "directory that exists and is writable, stderr or stdout"
            ) from None
        formatter = LineFormatter(options)
        for handler in self._handlers:
            handler.setFormatter(formatter)
            if options.sampling is not None and options.sampling.enabled:
                handler.addFilter(Sampling(options.sampling))
        level = LEVELS[options.level.lower()]
        root, own = logging.getLogger(), logging.getLogger("kofagent")
        self._before = {"": root.level, "kofagent": own.level}
        for name, own_level in self._levels.items():
            self._before[name] = logging.getLogger(name).level
            logging.getLogger(name).setLevel(own_level)
        # before the configuration was read, lines went to handlers of the command line
        self._silenced = [h for h in root.handlers if type(h) is logging.StreamHandler]
        for old in self._silenced:
            root.removeHandler(old)
        for handler in self._handlers:
            root.addHandler(handler)
        own.setLevel(level)
        root.setLevel(max(level, logging.WARNING))  # libraries: errors and warnings only

    def stop(self) -> None:
        """Restores the previous configuration."""
        root = logging.getLogger()
        for handler in self._handlers:
            root.removeHandler(handler)
        for old in self._silenced:
            root.addHandler(old)
        self._silenced = []
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)
        self._before = {}
        self._close()

    def _close(self) -> None:
        for handler in self._handlers:
            handler.close()
        self._handlers = []
        self._failures.close()


class _Stream(logging.StreamHandler[TextIO]):
    """Standard output or error, looked up at each event, so that a replaced one is used."""

    def __init__(self, name: str, failures: Failures | None) -> None:
        logging.Handler.__init__(self)
        self._name_of_stream = name
        self._failures = failures

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        stream: TextIO = getattr(sys, self._name_of_stream)
        return stream

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as `logging` names it
        """Reports what kept an event from being written."""
        if self._failures is not None:
            self._failures.say(self._name_of_stream, sys.exc_info()[1])


class _File(logging.FileHandler):
    """A file that grows."""

    def __init__(self, path: str, failures: Failures | None) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._failures = failures

    def close(self) -> None:
        """As `FileHandler.close`; what cannot be written at the end is reported, too."""
        try:
            super().close()
        except OSError as error:
            if self._failures is not None:
                self._failures.say(self.baseFilename, error)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as `logging` names it
        """Reports what kept an event from being written."""
        if self._failures is not None:
            self._failures.say(self.baseFilename, sys.exc_info()[1])


def _handler(path: str, failures: Failures | None = None) -> logging.Handler:
    """The output of a path; what cannot be written to it goes to `failures`, and is lost without them."""
    return _Stream(path, failures) if path in ("stderr", "stdout") else _File(path.removeprefix("file://"), failures)
