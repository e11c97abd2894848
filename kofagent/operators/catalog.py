"""Operators by type."""

from __future__ import annotations

from kofagent.operators.block_parsers import ScopeNameParser, SeverityParser, TimeParser, TraceParser
from kofagent.operators.container import Container
from kofagent.operators.csv_parser import CsvParser
from kofagent.operators.fields import (
    Add,
    AssignKeys,
    Copy,
    Flatten,
    Move,
    Noop,
    RegexReplace,
    Remove,
    Retain,
    SanitizeUtf8,
    Unquote,
)
from kofagent.operators.json_array_parser import JsonArrayParser
from kofagent.operators.json_parser import JsonParser
from kofagent.operators.key_value_parser import KeyValueParser
from kofagent.operators.operator import Operator
from kofagent.operators.recombine import Recombine
from kofagent.operators.regex_parser import RegexParser
from kofagent.operators.routing import DropOutput, Filter, Router
from kofagent.operators.syslog_parser import SyslogParser
from kofagent.operators.uri_parser import UriParser

OPERATORS: dict[str, type[Operator]] = {
    "add": Add,
    "assign_keys": AssignKeys,
    "container": Container,
    "copy": Copy,
    "csv_parser": CsvParser,
    "drop_output": DropOutput,
    "filter": Filter,
    "flatten": Flatten,
    "json_array_parser": JsonArrayParser,
    "json_parser": JsonParser,
    "key_value_parser": KeyValueParser,
    "move": Move,
    "noop": Noop,
    "recombine": Recombine,
    "regex_parser": RegexParser,
    "regex_replace": RegexReplace,
    "remove": Remove,
    "retain": Retain,
    "router": Router,
    "sanitize_utf8": SanitizeUtf8,
    "scope_name_parser": ScopeNameParser,
    "severity_parser": SeverityParser,
    "syslog_parser": SyslogParser,
    "time_parser": TimeParser,
    "trace_parser": TraceParser,
    "unquote": Unquote,
    "uri_parser": UriParser,
}
