"""Grok patterns: names for regular expressions, which stand as %{NAME} or %{NAME:field:type} in another."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from kofagent.config.compat import re2_unanchored
from kofagent.config.re2 import compile_bytes
from kofagent.ottl.errors import EvaluationError
from kofagent.wire.attributes import encode_text

_ANYWHERE = re2_unanchored()

_IPV4 = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}"
_H = r"[0-9A-Fa-f]{1,4}"
_IPV6 = (
    rf"(?:(?:{_H}:){{7}}{_H}|(?:{_H}:){{1,7}}:|(?:{_H}:){{1,6}}:{_H}|(?:{_H}:){{1,5}}(?::{_H}){{1,2}}|(?:{_H}:){{1,4}}(?::{_H}){{1,3}}"
    rf"|(?:{_H}:){{1,3}}(?::{_H}){{1,4}}|(?:{_H}:){{1,2}}(?::{_H}){{1,5}}|{_H}:(?::{_H}){{1,6}}|:(?:(?::{_H}){{1,7}}|:)"
    rf"|(?:{_H}:){{6}}{_IPV4}|(?:{_H}:){{1,5}}:{_IPV4}|::(?:ffff:)?{_IPV4})(?:%[0-9A-Za-z]+)?"
)
PATTERNS: dict[str, str] = {
    "USERNAME": r"[a-zA-Z0-9._-]+",
    "USER": "%{USERNAME}",
    "EMAILLOCALPART": r"[a-zA-Z0-9!#$%&'*+\-/=?^_`{|}~]{1,64}(?:\.[a-zA-Z0-9!#$%&'*+\-/=?^_`{|}~]{1,62}){0,63}",
    "EMAILADDRESS": "%{EMAILLOCALPART}@%{HOSTNAME}",
    "HTTPDUSER": "%{EMAILADDRESS}|%{USER}",
    "INT": r"(?:[+-]?(?:[0-9]+))",
    "BASE10NUM": r"(?:[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))",
    "NUMBER": "(?:%{BASE10NUM})",
    "BASE16NUM": r"(?:[+-]?(?:0x)?(?:[0-9A-Fa-f]+))",
    "BASE16FLOAT": r"\b(?:[+-]?(?:0x)?(?:(?:[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]*)?)|(?:\.[0-9A-Fa-f]+)))\b",
    "BOOLEAN": "true|false",
    "POSINT": r"\b(?:[1-9][0-9]*)\b",
    "NONNEGINT": r"\b(?:[0-9]+)\b",
    "WORD": r"\b\w+\b",
    "NOTSPACE": r"\S+",
    "SPACE": r"\s*",
    "DATA": ".*?",
    "GREEDYDATA": ".*",
    "QUOTEDSTRING": r'"(?:\\.|[^\\"])*"|""|\'(?:\\.|[^\\\'])*\'|\'\'|`(?:\\.|[^\\`])*`|``',
    "QS": "%{QUOTEDSTRING}",
    "UUID": "[A-Fa-f0-9]{8}-(?:[A-Fa-f0-9]{4}-){3}[A-Fa-f0-9]{12}",
    "URN": r"urn:[0-9A-Za-z][0-9A-Za-z-]{0,31}:(?:%[0-9a-fA-F]{2}|[0-9A-Za-z()+,.:=@;$_!*'/?#-])+",
    "MAC": "(?:%{CISCOMAC}|%{WINDOWSMAC}|%{COMMONMAC})",
    "CISCOMAC": r"(?:(?:[A-Fa-f0-9]{4}\.){2}[A-Fa-f0-9]{4})",
    "WINDOWSMAC": "(?:(?:[A-Fa-f0-9]{2}-){5}[A-Fa-f0-9]{2})",
    "COMMONMAC": "(?:(?:[A-Fa-f0-9]{2}:){5}[A-Fa-f0-9]{2})",
    "IPV6": _IPV6,
    "IPV4": _IPV4,
    "IP": "(?:%{IPV6}|%{IPV4})",
    "HOSTNAME": r"\b(?:[0-9A-Za-z][0-9A-Za-z-]{0,62})(?:\.(?:[0-9A-Za-z][0-9A-Za-z-]{0,62}))*(?:\.?|\b)",
    "HOST": "%{HOSTNAME}",
    "IPORHOST": "(?:%{IP}|%{HOSTNAME})",
    "HOSTPORT": "%{IPORHOST}:%{POSINT}",
    "PATH": "(?:%{UNIXPATH}|%{WINPATH})",
    "UNIXPATH": r"(?:/[\w_%!$@:.,+~-]*)+",
    "TTY": r"(?:/dev/(?:pts|tty(?:[pq])?)(?:\w+)?/?(?:[0-9]+))",
    "WINPATH": r"(?:[A-Za-z]:|\\)(?:\\[^\\?*]*)+",
    "URIPROTO": r"[A-Za-z](?:[A-Za-z0-9+\-.]+)+",
    "URIHOST": "%{IPORHOST}(?::%{POSINT})?",
    "URIPATH": r"(?:/[A-Za-z0-9$.+!*'(){},~:;=@#%&_\-]*)+",
    "URIQUERY": r"[A-Za-z0-9$.+!*'|(){},~@#%&/=:;_?\-\[\]<>]*",
    "URIPARAM": r"\?%{URIQUERY}",
    "URIPATHPARAM": r"%{URIPATH}(?:\?%{URIQUERY})?",
    "URI": r"%{URIPROTO}://(?:%{USER}(?::[^@]*)?@)?(?:%{URIHOST})?(?:%{URIPATH}(?:\?%{URIQUERY})?)?",
    "MONTH": (
        r"\b(?:[Jj]an(?:uary|uar)?|[Ff]eb(?:ruary|ruar)?|[Mm](?:a|\u00e4)?r(?:ch|z)?|[Aa]pr(?:il)?|[Mm]a(?:y|i)?|[Jj]un(?:e|i)?|[Jj]ul(?:y|i)?"
        r"|[Aa]ug(?:ust)?|[Ss]ep(?:tember)?|[Oo](?:c|k)?t(?:ober)?|[Nn]ov(?:ember)?|[Dd]e(?:c|z)(?:ember)?)\b"
    ).replace("\\u00e4", "\u00e4"),
    "MONTHNUM": "(?:0?[1-9]|1[0-2])",
    "MONTHNUM2": "(?:0[1-9]|1[0-2])",
    "MONTHDAY": "(?:(?:0[1-9])|(?:[12][0-9])|(?:3[01])|[1-9])",
    "DAY": "(?:Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?)",
    "YEAR": r"(?:\d\d){1,2}",
    "HOUR": "(?:2[0123]|[01]?[0-9])",
    "MINUTE": "(?:[0-5][0-9])",
    "SECOND": "(?:(?:[0-5]?[0-9]|60)(?:[:.,][0-9]+)?)",
    "TIME": "%{HOUR}:%{MINUTE}(?::%{SECOND})",
    "DATE_US": "%{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}",
    "DATE_EU": "%{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}",
    "ISO8601_TIMEZONE": "(?:Z|[+-]%{HOUR}(?::?%{MINUTE}))",
    "ISO8601_SECOND": "%{SECOND}",
    "TIMESTAMP_ISO8601": "%{YEAR}-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?%{ISO8601_TIMEZONE}?",
    "DATE": "%{DATE_US}|%{DATE_EU}",
    "DATESTAMP": "%{DATE}[- ]%{TIME}",
    "TZ": "(?:[APMCE][SD]T|UTC)",
    "DATESTAMP_RFC822": "%{DAY} %{MONTH} %{MONTHDAY} %{YEAR} %{TIME} %{TZ}",
    "DATESTAMP_RFC2822": "%{DAY}, %{MONTHDAY} %{MONTH} %{YEAR} %{TIME} %{ISO8601_TIMEZONE}",
    "DATESTAMP_OTHER": "%{DAY} %{MONTH} %{MONTHDAY} %{TIME} %{TZ} %{YEAR}",
    "DATESTAMP_EVENTLOG": "%{YEAR}%{MONTHNUM2}%{MONTHDAY}%{HOUR}%{MINUTE}%{SECOND}",
    "SYSLOGTIMESTAMP": "%{MONTH} +%{MONTHDAY} %{TIME}",
    "PROG": r"[\x21-\x5a\x5c\x5e-\x7e]+",
    "SYSLOGPROG": r"%{PROG:process.name}(?:\[%{POSINT:process.pid:int}\])?",
    "SYSLOGHOST": "%{IPORHOST}",
    "SYSLOGFACILITY": "<%{NONNEGINT:log.syslog.facility.code:int}.%{NONNEGINT:log.syslog.priority:int}>",
    "SYSLOGBASE": "%{SYSLOGTIMESTAMP:timestamp} (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:host.name} %{SYSLOGPROG}:",
    "SYSLOGBASE2": (
        "(?:%{SYSLOGTIMESTAMP:timestamp}|%{TIMESTAMP_ISO8601:timestamp})(?: %{SYSLOGFACILITY})?(?: %{SYSLOGHOST:host.name})?"
        "(?: %{SYSLOGPROG}:)?"
    ),
    "SYSLOGLINE": "%{SYSLOGBASE2} %{GREEDYDATA:message}",
    "SYSLOGPAMSESSION": (
        r"%{SYSLOGBASE} (?:%{GREEDYDATA:message})%{WORD:system.auth.pam.module}\(%{DATA:system.auth.pam.origin}\): session "
        r"%{WORD:system.auth.pam.session_state} for user %{USERNAME:user.name}(?: by %{GREEDYDATA})?"
    ),
    "HTTPDATE": "%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} %{INT}",
    "LOGLEVEL": (
        "(?:[Aa]lert|ALERT|[Tt]race|TRACE|[Dd]ebug|DEBUG|[Nn]otice|NOTICE|[Ii]nfo?(?:rmation)?|INFO?(?:RMATION)?|[Ww]arn?(?:ing)?"
        "|WARN?(?:ING)?|[Ee]rr?(?:or)?|ERR?(?:OR)?|[Cc]rit?(?:ical)?|CRIT?(?:ICAL)?|[Ff]atal|FATAL|[Ss]evere|SEVERE|[Ee]merg(?:ency)?"
        "|EMERG(?:ENCY)?)"
    ),
    "COMMONAPACHELOG": (
        "%{IPORHOST:source.address} (?:-|%{HTTPDUSER:apache.access.user.identity}) (?:-|%{HTTPDUSER:user.name}) "
        r'\[%{HTTPDATE:timestamp}\] "(?:%{WORD:http.request.method} %{NOTSPACE:url.original}'
        r'(?: HTTP/%{NUMBER:http.version})?|%{DATA})" (?:-|%{INT:http.response.status_code:int}) '
        "(?:-|%{INT:http.response.body.bytes:int})"
    ),
    "COMBINEDAPACHELOG": ('%{COMMONAPACHELOG} "(?:-|%{DATA:http.request.referrer})" "(?:-|%{DATA:user_agent.original})"'),
}
_REFERENCE = re.compile(r"%\{([A-Za-z0-9_]+)(?::([\w.\-@]+))?(?::(\w+))?\}")
MAX_DEPTH, MAX_LENGTH = 20, 200_000


class Grok:
    """A compiled pattern."""

    def __init__(self, pattern: str, named_only: bool, definitions: dict[str, str]) -> None:
        self._definitions = {**PATTERNS, **definitions}
        self._named_only = named_only
        self.fields: dict[str, tuple[str, str]] = {}
        text = self._expanded(pattern, 0)
        try:
            regexp = compile_bytes(text)
        except ValueError as error:
            raise EvaluationError(f"the pattern is none: {error}") from None
        groups = [(n.decode() if isinstance(n, bytes) else n, number) for n, number in regexp.NamedCapturingGroups()]
        if named_only and not groups:
            raise EvaluationError("named_captures_only, and no capture has a name")
        self._search = regexp.Match
        self._captures = [(number, *self.fields.get(group, (group, "string"))) for group, number in groups]

    def _expanded(self, pattern: str, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise EvaluationError("pattern definitions that refer to each other in a circle")

        def one(match: re.Match[str]) -> str:
            name, field, cast = match.groups()
            if name not in self._definitions:
                raise EvaluationError(f"unknown pattern {name}")
            inner = self._expanded(self._definitions[name], depth + 1)
            if field is None and self._named_only:
                return f"(?:{inner})"
            group = f"f{len(self.fields)}_"
            self.fields[group] = (field or name, cast or "string")
            return f"(?P<{group}>{inner})"

        out = _REFERENCE.sub(one, pattern)
        if len(out) > MAX_LENGTH:
            raise EvaluationError("the pattern is too long when its definitions are filled in")
        return out

    def parse(self, text: str) -> dict[str, Any]:
        """The fields of a text; empty where the pattern does not match."""
        # hot: otlp_transform_kof, 30 us a line of syslog: the module's own match makes each group in Python, 75 us more
        data = encode_text(text)
        spans = self._search(_ANYWHERE, data, 0, len(data))
        found: dict[str, Any] = {}
        for number, name, cast in self._captures:
            begin, end = spans[number]
            if begin >= 0 and (end > begin or name not in found):
                value = data[begin:end].decode("utf-8", "replace")
                found[name] = value if cast == "string" else _cast(value, cast)
        return found


def _cast(value: str, cast: str) -> Any:
    try:
        if cast in ("int", "long"):
            return int(value) if len(value) < 20 else value
        if cast in ("float", "double"):
            return float(value)
        if cast in ("bool", "boolean"):
            return value == "true"
    except ValueError:
        pass
    return value


@lru_cache(64)
def compile_grok(pattern: str, named_only: bool, definitions: tuple[str, ...]) -> Grok:
    """A compiled pattern; `definitions` are of the form NAME=pattern. EvaluationError."""
    own = {}
    for text in definitions:
        name, equals, definition = text.partition("=")
        if not equals or not name:
            raise EvaluationError(f"{text!r} is no definition of a pattern: NAME=pattern")
        own[name] = definition
    return Grok(pattern, named_only, own)
