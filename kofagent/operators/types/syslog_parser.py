"""`syslog_parser`: parses syslog messages of RFC 3164 or RFC 5424, framed by RFC 6587 or not.

With protocol `none` only the priority is looked at. Names of the fields and the table of severities are upstream's. Messages that
break the RFC's grammar are an error.

RFC 3164 only describes what daemons wrote, so what they write is taken: times also of ISO 8601 (rsyslog's default since 2023), with
a year or a fraction, days with or without padding, and messages without a host (the local socket's). In RFC 5424 any field may be
nil, the time included, and a fraction may have nanoseconds.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from pydantic import Field as Option
from pydantic import PrivateAttr, field_validator, model_validator

from kofagent.operators.entry import Entry
from kofagent.operators.errors import OperatorError
from kofagent.operators.field import ATTRIBUTES, MISSING
from kofagent.operators.operator import Run
from kofagent.operators.parser import Parser, ParserConfig, text_of
from kofagent.operators.timelayout import Layout, TimeError, gotime_layout, location_of, strptime_layout

_FACILITIES: Final = (
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "cron2",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
)
_SEVERITIES: Final = (
    (21, "emerg"),
    (19, "alert"),
    (18, "crit"),
    (17, "err"),
    (13, "warning"),
    (10, "notice"),
    (9, "info"),
    (5, "debug"),
)
_PRIORITY = re.compile(r"<(0|[1-9][0-9]?|1[0-8][0-9]|19[01])>")
_RFC5424 = re.compile(
    r"(?P<version>[1-9][0-9]{0,2}) "
    r"(?P<timestamp>-|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2})) "
    r"(?P<hostname>[!-~]{1,255}) (?P<appname>[!-~]{1,48}) (?P<proc_id>[!-~]{1,128}) (?P<msg_id>[!-~]{1,32}) "
)
_ELEMENT = re.compile(r'\[(?P<id>[!#-<>-\\^-~]{1,32})(?P<params>(?: [!#-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\.)*")*)\]', re.DOTALL)
_PARAMETER = re.compile(r' (?P<name>[!#-<>-\\^-~]{1,32})="(?P<value>(?:[^"\\\]]|\\.)*)"', re.DOTALL)
_TAG = r"[!-9;-Z\\-~]{1,255}"
_RFC3164 = re.compile(
    r"(?:(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?)(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?"
    r"|(?P<date>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) {1,2}(?:0?[1-9]|[12][0-9]|3[01])(?P<year> [0-9]{4})? "
    r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?)):? "
    rf"(?:(?!{_TAG}(?:\[[!-\\^-~]{{0,255}}\])?:(?: |\Z))(?P<hostname>[!-~]{{1,255}}) )?"
    rf"(?:(?P<appname>{_TAG})(?:\[(?P<proc_id>[!-\\^-~]*)\])?: ?)?(?P<message>.*)",
    re.DOTALL,
)
_COUNT = re.compile(r"([1-9][0-9]{0,9})\s")
_RFC3339: Final = gotime_layout("2006-01-02T15:04:05Z07:00", location_of("UTC", ""), {})


class Config(ParserConfig):
    """Options of syslog_parser."""

    protocol: Literal["rfc3164", "rfc5424", "none"] = Option(description="rfc3164, rfc5424 or none.")
    location: str = Option("UTC", description="Time zone of RFC 3164 times.")
    enable_octet_counting: bool = Option(False, description="Messages begin with their length (RFC 6587).")
    allow_skip_pri_header: bool = Option(False, description="Messages may come without <priority>.")
    non_transparent_framing_trailer: Literal["LF", "NUL"] | None = Option(None, description="End of each message (RFC 6587).")
    max_octets: int = Option(0, ge=0, description="Longest message with octet counting; 0: 8192.")
    _layouts: dict[str, Layout] = PrivateAttr(default_factory=dict)

    @field_validator("protocol", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.non_transparent_framing_trailer is not None:
            if self.enable_octet_counting:
                raise ValueError("only one of enable_octet_counting and non_transparent_framing_trailer can be set")
            if self.protocol != "rfc5424":
                raise ValueError("non_transparent_framing_trailer needs protocol rfc5424")
        location = location_of(self.location or "UTC", "")
        for name, layout in (
            ("date", "%b %e %H:%M:%S"),
            ("date and year", "%b %e %Y %H:%M:%S"),
            ("iso", "%Y-%m-%dT%H:%M:%S"),
            ("iso and zone", "%Y-%m-%dT%H:%M:%S%z"),
        ):
            self._layouts[name] = strptime_layout(layout, location, {})
        return self

    def time(self, found: re.Match[str]) -> int:
        """Unix nanoseconds of the time in a message of RFC 3164; TimeError."""
        if found["iso"]:
            text = found["iso"].replace(" ", "T")
            return self._layouts["iso and zone"].parse(text + found["zone"]) if found["zone"] else self._layouts["iso"].parse(text)
        return self._layouts["date and year" if found["year"] else "date"].parse(found["date"])


class SyslogParser(Parser[Config]):
    """Parses a message."""

    def process(self, entry: Entry, run: Run) -> None:
        try:
            if not self.skipped(entry):
                bare = (
                    self.config.protocol != "none" and self._bare(text_of(entry.body))
                    if (self.config.allow_skip_pri_header and not self.config.enable_octet_counting)
                    else False
                )
                self.transform(entry)
                self._finish(entry, bare)
        except Exception as error:
            self.handle(entry, error, run)
            return
        self.write(entry, run)

    def parse(self, value: Any, entry: Entry) -> Any:
        text = self._unframed(text_of(value))
        bare = self._bare(text)
        out: dict[str, Any] = {}
        priority = _PRIORITY.match(text)
        if self.config.protocol == "none":
            return (self._priority(int(priority[1])) if priority else {}) | {"message": text}
        if priority is None:
            if not self.config.allow_skip_pri_header or text.startswith("<"):
                raise OperatorError("the message has no <priority>")
        else:
            text = text[priority.end() :]
            if not bare:
                out = self._priority(int(priority[1]))
        out.update(self._rfc5424(text) if self.config.protocol == "rfc5424" else self._rfc3164(text))
        return out

    def _bare(self, text: str) -> bool:
        return self.config.allow_skip_pri_header and not self.config.enable_octet_counting and len(text) > 1 and text[0] != "<"

    def _unframed(self, text: str) -> str:
        if self.config.enable_octet_counting:
            match = _COUNT.match(text)
            if match is None:
                if self.config.protocol == "none":
                    return text
                raise OperatorError("the message does not begin with its length")
            data = text[match.end() :].encode("utf-8", "replace")
            if self.config.protocol == "none":
                return text[match.end() :]
            length = int(match[1])
            if length > (self.config.max_octets or 8192):
                raise OperatorError("the message is longer than max_octets")
            if len(data) < length:
                raise OperatorError("the message is shorter than its length says")
            return data[:length].decode("utf-8", "replace")
        if self.config.non_transparent_framing_trailer is not None:
            trailer = "\n" if self.config.non_transparent_framing_trailer == "LF" else "\0"
            message, found, _ = text.partition(trailer)
            if not found:
                raise OperatorError("the message has no trailer")
            return message
        return text

    @staticmethod
    def _priority(priority: int) -> dict[str, Any]:
        facility, severity = divmod(priority, 8)
        return {"priority": priority, "severity": severity, "facility": facility, "facility_text": _FACILITIES[facility]}

    @staticmethod
    def _rfc5424(text: str) -> dict[str, Any]:
        match = _RFC5424.match(text)
        if match is None:
            raise OperatorError("the message is not RFC 5424")
        out: dict[str, Any] = {"version": int(match["version"])}
        for name in ("hostname", "appname", "proc_id", "msg_id"):
            if match[name] != "-":
                out[name] = match[name]
        if match["timestamp"] != "-":
            try:
                out["timestamp"] = _RFC3339.parse(match["timestamp"])
            except TimeError as error:
                raise OperatorError(f"timestamp: {error}") from None
        at = match.end()
        if text.startswith("-", at):
            at += 1
        else:
            data: dict[str, dict[str, str]] = {}
            while element := _ELEMENT.match(text, at):
                if element["id"] in data:
                    raise OperatorError("duplicate element in the structured data")
                data[element["id"]] = {
                    p["name"]: re.sub(r'\\(["\\\]])', r"\1", p["value"]) for p in _PARAMETER.finditer(element["params"])
                }
                at = element.end()
            if not data:
                raise OperatorError("the message has no structured data")
            out["structured_data"] = data
        if at < len(text):
            if text[at] != " ":
                raise OperatorError("the structured data is not valid")
            message = text[at + 1 :].removeprefix("\ufeff")
            if message:
                out["message"] = message
        return out

    def _rfc3164(self, text: str) -> dict[str, Any]:
        match = _RFC3164.fullmatch(text)
        if match is None:
            raise OperatorError("the message is not RFC 3164")
        try:
            out: dict[str, Any] = {"timestamp": self.config.time(match)}
        except TimeError as error:
            raise OperatorError(f"timestamp: {error}") from None
        out.update({name: match[name] for name in ("hostname", "appname", "proc_id", "message") if match[name]})
        return out

    def _finish(self, entry: Entry, bare: bool) -> None:
        severity = MISSING if bare else entry.attributes.pop("severity", MISSING)
        if isinstance(severity, int) and 0 <= severity <= 7:
            entry.severity, entry.severity_text = _SEVERITIES[severity]
        elif not bare and self.config.protocol != "none":
            raise OperatorError("the entry has no severity")
        if self.config.protocol == "none":
            return
        time = entry.attributes.pop("timestamp", MISSING)
        if time is MISSING and (self.config.protocol != "rfc5424" or self.config.parse_to != ATTRIBUTES):
            raise OperatorError("the entry has no timestamp")
        if isinstance(time, int) and self.config.timestamp is None:
            entry.timestamp = time


OPERATOR = SyslogParser
