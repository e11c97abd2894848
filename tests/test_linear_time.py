"""What data meets is read in linear time: every pattern of `re` in the product, and the parsers of what others write.

A pattern that is not in a table fails `test_every_pattern_is_in_a_table`: name hostile beginnings for it in HOSTILE, or say in
CONFIGURATION why only the configuration reaches it, or where else it is covered. Every pattern of HOSTILE also gets every unit of UNITS, repeated.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from kofagent.config.base import parse_duration, parse_size
from kofagent.extensions.basicauth import htpasswd
from kofagent.operators.chain import Chain
from kofagent.operators.errors import OperatorError
from kofagent.operators.json_text import decode_json
from kofagent.operators.timelayout import gotime_layout, strptime_layout
from kofagent.ottl import Condition, EvaluationError, parse_condition
from kofagent.ottl.functions import CONVERTERS
from kofagent.prometheus.text import scan, scan_line
from kofagent.wire import otlp_json_stream
from kofagent.wire.otlp_json import to_protobuf
from kofagent.wire.otlp_json_stream import Conversion
from tests.support.patterns import uses

UNITS = (
    "1",
    "a",
    "A",
    "Aa",
    " ",
    "\t",
    "\n",
    "a\n",
    "=",
    '"',
    "\\",
    '\\"',
    "/",
    "_",
    "-",
    ".",
    ",",
    ":",
    "[",
    "{",
    "${a",
    "%",
    "@a",
    "a.",
    "a=",
)
SUFFIXES = ("", "!", "\n b")
_TIME = "Jan 10 10:10:10"

HOSTILE: dict[str, tuple[str, ...]] = {
    "config/base:_DURATION": ("", "1."),
    "config/base:parse_size#0": ("", "1"),
    "config/base:check_url#0": ("", "a"),
    "config/redact:_LOGIN": ("", "//", "'a"),
    "config/redact:_QUERY": ("", "?", "?a="),
    "config/redact:_PAIR": ("", "?a", "&a=b"),
    "exporters/file/exporter:_path#0": ("",),
    "extensions/host_observer/sockets:_INODE": ("", "socket:["),
    "extensions/k8s_observer/pods:_UID": ("",),
    "exporters/otlp:_SIZE": ("", "exceeds ", "message "),
    "exporters/prometheusremotewrite/labels:double_text#0": ("", "e-0"),
    "exporters/prometheusremotewrite/names:_NOT_IN_NAME": ("",),
    "exporters/prometheusremotewrite/names:_NOT_IN_NAME_KEEP": ("",),
    "exporters/prometheusremotewrite/names:_NOT_IN_LABEL": ("",),
    "component/checkpoints:file_name#0": ("",),
    "component/stored:CREDENTIALS": ("", "api", "access-"),
    "wire/attributes:_SURROGATES": ("",),
    "wire/foreign_json:_LONE": ("",),
    "wire/foreign_json:_MAY_HAVE_LONE": ("", "\\uD"),
    "wire/otlp_json_stream:_BLANKS": ("", " "),
    "kubernetes/errors:_USER": ("", 'User "'),
    "kubernetes/image:_IMAGE": ("", "a.b/", "a@b:"),
    "kubernetes/image:_ID": ("", "a:"),
    "kubernetes/image:_SCHEME": ("",),
    "kubernetes/quantity:_FORM": ("", "1.", "1e"),
    "net/grpc_client:_SCHEME": ("",),
    "net/grpc_server:_TIMEOUT": ("",),
    "operators/json_text:_BRACKETS": ("", '[[["', '"\\'),
    "operators/line_formats:_FRACTION": ("", "."),
    "receivers/filelog/rotated:_NUMBERS": ("", "a"),
    "operators/text:_NO_BYTES": ("",),
    "operators/regex:_OTHER_SURROGATES": ("",),
    "operators/line_formats:PARTIAL": ("", "\t", "a stdout P"),
    "operators/types/container:_CRI": ("", "t stdout ", "t stdout F "),
    "operators/types/container:_PATH": ("", "/a_b_", "/a_b_c/", "/a_b_c/d/"),
    "operators/types/sanitize_utf8:transform#0": ("",),
    "operators/types/syslog_parser:_PRIORITY": ("", "<"),
    "operators/types/syslog_parser:_RFC5424": ("", "1 ", "1 - ", "1 - a ", "1 - a b "),
    "operators/types/syslog_parser:_ELEMENT": ("", "[", '[a b="', '[a b="c" '),
    "operators/types/syslog_parser:_PARAMETER": ("", " ", ' b="'),
    "operators/types/syslog_parser:_RFC3164": (
        "",
        *[f"{_TIME} {rest}" for rest in ("", "a ", "a b[", "a[", "a:")],
        "2026-01-01 10:10:10.",
    ),
    "operators/types/syslog_parser:_COUNT": ("",),
    "operators/types/syslog_parser:_rfc5424#0": ("",),
    "operators/types/unquote:_DOUBLE": ("", '"', '"\\x'),
    "operators/types/unquote:_SINGLE": ("", "'"),
    "operators/types/unquote:unquote#0": ("",),
    "operators/types/uri_parser:_BAD_ESCAPE": ("",),
    "operators/types/uri_parser:parse#0": ("", "a"),
    "operators/types/uri_parser:parse#1": ("",),
    "ottl/expressions:_NO_NUMBER": ("", "!", "!!"),
    "ottl/expressions:_ODD_DOUBLE": ("",),
    "ottl/functions/core:int_like#0": ("", "-"),
    "ottl/functions/core:_FLOAT": ("", "1.", "1e", "0x"),
    "ottl/functions/logs:_CEF_KEY": ("", "a=", " a"),
    "ottl/functions/logs:parse_cef#0": ("",),
    "ottl/functions/logs:_cef_extensions#0": ("",),
    "ottl/functions/logs:_leef_delimiter#0": ("", "0x"),
    "ottl/functions/logs:parse_elf#0": ("", '"'),
    "ottl/functions/logs:_CLF": ("", "a b c [", 'a b c [d] "', 'a b c [d] "e" 200 1'),
    "ottl/functions/logs:_COMBINED": ("", 'a b c [d] "e" 200 1 "', 'a b c [d] "e" 200 1 "r" "'),
    "ottl/functions/network:_URL": ("", "a:", "//", "http://a/", "http://a/?"),
    "ottl/functions/network:url#0": ("",),
    "ottl/functions/network:url#1": ("",),
    "ottl/functions/network:_host#0": ("", "[", "a:"),
    "ottl/functions/parsing:_LEADING_ZEROS": ("", '"', "0"),
    "ottl/functions/texts:to_snake_case#0": ("",),
    "ottl/functions/texts:to_snake_case#1": ("",),
    "ottl/functions/texts:to_snake_case#2": ("",),
    "ottl/functions/texts:to_camel_case#0": ("",),
    "ottl/functions/texts:to_camel_case#1": ("",),
    "ottl/functions/texts:to_camel_case#2": ("",),
    "ottl/functions/texts:_unbase64#0": ("",),
    "ottl/functions/texts:_unbase64#1": ("",),
    "ottl/functions/texts:_unbase64#2": ("",),
    "ottl/functions/texts:is_valid_luhn#0": ("",),
    "ottl/functions/times:_PART": ("", "1."),
    "ottl/xmltree:_parse#0": ("", "<?xml", "<?xml a"),
    "processors/k8sattributes/extract:_CRONJOB": ("", "a-"),
    "processors/k8sattributes/extract:_REPLICASET": ("", "a-"),
    "processors/k8sattributes/images:_DIGEST": ("", "@a", "@a:"),
    "processors/k8sattributes/images:_TAG": ("", ":"),
    "processors/resourcedetection/gcp:_MANAGED_BY": ("", "projects/", "projects/a/zones/"),
    "prometheus/client_config:_SIZE": ("", "1", "1.1"),
    "prometheus/config:_FILES": ("", "*"),
    "prometheus/discovery/config:_FILE": ("", "*"),
    "prometheus/discovery/kubernetes/labels:_INVALID": ("",),
    "prometheus/relabel:_LEGACY_NAME": ("",),
    "prometheus/relabel:_REFERENCE": ("", "${"),
    "prometheus/relabel:single_dollars#0": ("", "$"),
    "prometheus/relabel:_literals#0": ("", "a|"),
    "prometheus/text:_NAME": ("",),
    "prometheus/text:_META_NAME": ("", '"'),
    "prometheus/text:_LABEL_NAME": ("", '"'),
    "prometheus/text:_LABEL_VALUE": ("", '"'),
    "prometheus/text:_LABEL_VALUE_LINE": ("", '"'),
    "prometheus/text:_BLANKS": ("",),
    "prometheus/text:_TEXT_VALUE": ("",),
    "prometheus/text:_TEXT_META": ("", "#", "# HELP"),
    "prometheus/text:_TOKEN": ("",),
    "prometheus/text:_DIGITS": ("",),
    "prometheus/text:_NUMBER": ("", "1.", "1e", "+"),
    "prometheus/text:_SIMPLE": ("", "a ", "a{", 'a{b="', 'a{b="c",'),
    "receivers/hostmetrics/scrapers/filesystem:_unescape#0": ("",),
    "receivers/journald/convert:_INT64": ("", "+"),
    "receivers/journald/cursor:_CURSOR": ("", f"s={'a' * 32};i="),
    "receivers/journald/fields:_NAME": ("", "A"),
    "receivers/journald/fields:_UNPRINTABLE": ("",),
    "transform/sampling:_HEX": ("", "a"),
    "transform/sampling:_OT_MEMBER": ("", "th:"),
    "transform/sampling:_W3C_KEY": ("", "a@"),
    "transform/sampling:_W3C_VALUE": ("", "a "),
    "receivers/prometheus/api:_MATCHER": ("", "a", 'a="', 'a="b"'),
    "receivers/prometheus/api:_global_url#0": ("", "http://"),
    "receivers/prometheus/api:_matcher#0": ("",),
    **{
        f"receivers/receiver_creator/hints:{name}": ("", "a", "endpoint", "tls_")
        for name in ("_ADDRESS", "_CREDENTIALS", "_LOOKS", "_OF_FILES", "_logs#0", "_netloc#0")
    },
    "receivers/zipkin/fields:_BLANKS": ("", " "),
    "region/stores:_SELECTOR": ("", "a", "a{"),
    "region/stores:_MATCHER": ("", "a", 'a="', 'a="b"'),
    "region/stores:select#0": ("",),
    "transform/actions:_INTEGER": ("", "+"),
    "transform/actions:_FLOAT": ("", "1.", "1e"),
}
"""Pattern -> beginnings after which the units are repeated."""

_OPTION = "an option's value, read at the start"
_EXPRESSION = "the text of an expression or a field in the configuration"
_BUILT = "built from the configuration; "
CONFIGURATION: dict[str, str] = {
    "config/validation_errors:scrub#0": "messages about options",
    "config/secrets:_URL": _OPTION,
    **dict.fromkeys(
        ("config/expand:_SCHEME", "config/expand:_VARIABLE", "config/expand:secret_variable#0", "config/load:_URI"), _OPTION
    ),
    "config/blocks:_ANSWER": _OPTION,
    "config/excerpt:_PARTS": "lines of configuration files, for messages",
    "receivers/receiver_creator/rules:_TYPE": _EXPRESSION,
    "values/versions:_WANTED": "a version on the command line",
    "config/reference:_cell#0": "descriptions of options, for the reference",
    **dict.fromkeys([f"config/source:{n}" for n in ("_INT", "_BASED", "_OCTAL", "_FLOAT", "_INF")], _OPTION),
    "config/validate:_TYPE": _OPTION,
    **dict.fromkeys([f"exporters/awscloudwatchlogs/config:{n}" for n in ("_TAG", "_name#0", "_name#1")], _OPTION),
    **dict.fromkeys(("exporters/file/config:_octal#0", "extensions/file_storage/config:_octal#0"), _OPTION),
    "exporters/file/writer:_BACKUP": "names of files that the exporter rotated itself, at most 255 bytes",
    "exporters/prometheusremotewrite/config:_patterns#0": _BUILT + "globs of label names",
    **dict.fromkeys([f"extensions/basicauth/htpasswd:{n}" for n in ("_BCRYPT", "_MD5", "_SHA_CRYPT")], "stored hashes, not logins"),
    "net/cors:__init__#0": _BUILT + "fnmatch writes its stars as atomic groups",
    **dict.fromkeys([f"operators/expression/lexer:{n}" for n in ("_TOKEN", "_ESCAPE")], _EXPRESSION),
    "ottl/expressions:_LITERAL": _EXPRESSION,
    **dict.fromkeys([f"cli/ottl:{n}" for n in ("_EDITOR", "_WORDS")], _EXPRESSION),
    **dict.fromkeys([f"ottl/lexer:{n}" for n in ("_TOKENS", "_ESCAPE")], _EXPRESSION),
    "connectors/routing/config:_REQUEST": _EXPRESSION,
    "ottl/functions/core:_PARAMETER": "signatures in the code",
    "ottl/functions/format:_VERB": "a format, which is a literal",
    "ottl/functions/parsing:_meets#0": "a range of severities, which is a literal",
    "ottl/grok:_REFERENCE": _EXPRESSION,
    **dict.fromkeys([f"ottl/strptime:__init__#{n}" for n in range(2)], "layouts of times"),
    "ottl/strptime:__init__#2": _BUILT + "a layout, its repetitions are bounded; data: the converters below",
    "ottl/xmltree:find#0": _EXPRESSION,
    "operators/field:_PART": _EXPRESSION,
    "operators/generate:_function#0": "source text of the compiler's own",
    "operators/line_formats:_cri#0": "the pattern of containerd's and CRI-O's lines; data: the parser below",
    "operators/regex:_TEMPLATE": "the template of a replacement",
    "operators/simple:_FOREIGN": _EXPRESSION,
    "operators/simple:__init__#0": _BUILT + "its work from one place is bounded, tests/operators/test_compiled.py",
    **dict.fromkeys(
        [f"operators/timelayout:{n}" for n in ("_GO", "__init__#0", "__init__#1", "strptime_layout#0", "gotime_layout#0")],
        "layouts of times",
    ),
    "operators/timelayout:__init__#2": _BUILT + "data: the parsers below",
    "operators/timelayout:_nanoseconds#0": _BUILT + "names of zones, no repetition",
    "operators/timelayout:_ENDS_IN_Z": _BUILT + "bounded",
    "operators/timelayout:epoch_nanoseconds#0": "bounded repetitions of digits between anchors",
    "processors/k8sattributes/rules:_REFERENCE": _OPTION,
    "processors/resourcedetection/env:parse#0": "an environment variable of the agent",
    "processors/resourcedetection/system:_machine_id#0": "what a tool of the system prints",
    **dict.fromkeys(
        [f"receivers/filelog/globs:{n}" for n in ("_MAGIC", "__init__#0", "_class_regex#0", "_unescape#0", "_walk#0", "_walk#1")],
        _BUILT + "globs of options, matched with paths of at most 4096 bytes",
    ),
    **dict.fromkeys([f"receivers/journald/{n}" for n in ("config:_FIELD", "config:_NAMESPACE", "units:_OF_GLOB")], _OPTION),
    **dict.fromkeys([f"receivers/journald/{n}" for n in ("file:_ARCHIVED", "names:_SUBDIRECTORY")], "names of files"),
    "prometheus/text:_PAIR": "only pairs of labels that _SIMPLE has matched",
    "region/stores:_matches#0": "a query of the developer who runs `kofagent dev`",
    "region/stores:select#1": "a query of the developer who runs `kofagent dev`",
    **dict.fromkeys([f"telemetry/reasons:#{n}" for n in range(4)], "reasons that the agent writes itself"),
    **dict.fromkeys(("values/compare:_REFERENCE", "values/generated:_LABEL", "values/generated:_NAME"), _OPTION),
}
"""Pattern -> why data does not reach it, or does so elsewhere."""

_SMALL = 2000
_QUICK = 0.01
"""Seconds for 8 * _SMALL characters that no quadratic pattern can do: it would take a hundred million steps."""


_MOST = 10.0
"""Seconds of CPU after which a read is broken off: what is linear needs some milliseconds, what is exponential would never end."""


@contextlib.contextmanager
def ended(what: str) -> Iterator[None]:
    """Fails instead of hanging: `re` looks at signals while it searches."""

    def stop(number: int, frame: object) -> None:
        raise AssertionError(f"{what}: no end after {_MOST:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _MOST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def assert_linear(what: str, read: Callable[[Any], object], make: Callable[[int], Any]) -> None:
    """Eight times the data may take at most 24 times as long (quadratic: 64). Best of several runs, of CPU time of this thread."""
    with ended(what):
        _assert_linear(what, read, make)


def _assert_linear(what: str, read: Callable[[Any], object], make: Callable[[int], Any]) -> None:
    large = make(8 * _SMALL)
    if _seconds(read, large) < _QUICK:
        return
    small = make(_SMALL)
    for _ in range(3):
        ratio = min(_seconds(read, large) for _ in range(2)) / max(min(_seconds(read, small) for _ in range(4)), 1e-6)
        if ratio < 24:
            return
    raise AssertionError(f"{what}: {ratio:.0f} times as long for 8 times the data")


def _seconds(read: Callable[[Any], object], data: Any) -> float:
    start = time.thread_time()
    try:
        read(data)
    except (ValueError, OperatorError):
        pass
    return time.thread_time() - start


_USES = {use.name: use for use in uses()}


def test_every_pattern_is_in_a_table() -> None:
    assert len(_USES) > 100
    assert not HOSTILE.keys() & CONFIGURATION.keys()
    assert sorted(_USES) == sorted(HOSTILE.keys() | CONFIGURATION.keys())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_patterns_are_linear(name: str) -> None:
    pattern = _USES[name].pattern()
    for method in sorted(_USES[name].methods()):
        call = getattr(pattern, "finditer" if method in ("sub", "subn", "split", "findall") else method)
        read = (lambda data, call=call: [None for _ in call(data)]) if call.__name__ == "finditer" else call
        for prefix in HOSTILE[name]:
            for unit in UNITS:
                for suffix in SUFFIXES:

                    def make(size: int, prefix: str = prefix, unit: str = unit, suffix: str = suffix) -> str | bytes:
                        text = prefix + unit * (size // len(unit)) + suffix
                        return text.encode() if isinstance(pattern.pattern, bytes) else text

                    assert_linear(f"{name} {method} {prefix!r} {unit!r} {suffix!r}", read, make)


def _operator(**options: Any) -> Callable[[str], object]:
    chain = Chain(
        [{"on_error": "send_quiet", **options}],
        dropped=lambda r, n: None,
        filtered=lambda r, n: None,
        log=logging.getLogger("test.quiet"),
    )

    def read(text: str) -> None:
        stream = chain.open({"log.file.path": "/var/log/pods/a_b_c/d/0.log"})
        stream.feed_entries([text], 1)
        stream.take()

    return read


def _container(text: str) -> None:
    chain = Chain([{"type": "container"}], dropped=lambda r, n: None, filtered=lambda r, n: None, log=logging.getLogger("q"))
    stream = chain.open({"log.file.path": "/var/log/pods/a_b_c/d/0.log"})
    stream.feed_chunk(text.replace("\n", " ").encode() + b"\n", 1)
    stream.take()


def _by_windows(text: str) -> None:
    """With windows so small that a text has many of them."""
    before, otlp_json_stream.WINDOW, otlp_json_stream.LEAST = otlp_json_stream.WINDOW, 64, 64
    try:
        for _ in Conversion("logs", text.encode()).steps():
            pass
    finally:
        otlp_json_stream.WINDOW, otlp_json_stream.LEAST = before, 8 * 1024


_JSON_BODY = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"'
_T = "2026-11-21T10:44:28.123456789"
PARSERS: dict[str, tuple[Callable[[str], object], tuple[str, ...]]] = {
    "exposition text": (lambda t: list(scan(t.encode(), False)), ("", "a ", "a 1", 'a{b="', "# HELP ", '# HELP "', "a 1 ")),
    "OpenMetrics": (lambda t: list(scan(t.encode(), True)), ("", "a ", "a 1", 'a{b="', "# HELP ", '# HELP "', "a 1 # {")),
    "exposition line": (lambda t: scan_line(t.encode(), False), ("a ", 'a{b="')),
    "JSON text": (decode_json, ("", "[" * 201 + '"', '{"a":"', "[1" + "," * 300)),
    "json_parser": (_operator(type="json_parser"), ("[" * 201 + '"', '{"a":"')),
    "json_array_parser": (_operator(type="json_array_parser"), ("[" * 201 + '"', '["')),
    "container": (_operator(type="container"), ("{" * 201 + '"', f"{_T}Z stdout F", f"{_T}Z stdout F ", _T, '{"log":"')),
    "container, compiled": (_container, ("{" * 201 + '"', f"{_T}Z stdout F", f"{_T}Z stdout P ", _T, '{"log":"')),
    "syslog": (_operator(type="syslog_parser", protocol="rfc5424"), ("<1>1 - a b c d ", '<1>1 - a b c d [a b="', "<1>")),
    "syslog 3164": (_operator(type="syslog_parser", protocol="rfc3164"), ("<1>Jan 10 10:10:10 ", "<1>Jan 10 10:10:10 a b[")),
    "key_value": (_operator(type="key_value_parser"), ("", 'a="', "a=")),
    "csv": (_operator(type="csv_parser", header="a,b"), ("", '"', ",")),
    "csv, lazy": (_operator(type="csv_parser", header="a,b", lazy_quotes=True), ("", '"')),
    "uri": (_operator(type="uri_parser"), ("", "http://", "http://a/", "?", "http://a:1/?")),
    "unquote": (_operator(type="unquote", field="body"), ("", '"')),
    "strptime": (strptime_layout("%b %d %Y %H:%M:%S.%f", None, {}).parse, ("", "Jan", "Jan 10 2026 10:10:10.")),
    "gotime": (gotime_layout("Jan _2 2006 15:04:05.999", None, {}).parse, ("", "Jan", "Jan 10 2026 10:10:10.")),
    "htpasswd": (htpasswd.parse, ("", "a:", "a:$6$", "a:$apr1$", "a:{SHA}")),
    "password": (lambda t: htpasswd.matches(t, "$6$rounds=1000$salt$x"), ("",)),
    "duration": (parse_duration, ("", "1")),
    "size": (parse_size, ("", "1")),
    "OTLP JSON by windows": (_by_windows, ("", '{"resourceLogs":[', '{"resourceLogs":"', _JSON_BODY, _JSON_BODY + "x")),
    "OTLP JSON": (
        lambda t: to_protobuf("logs", t.encode()),
        ("", '{"resourceLogs":[', '{"resourceLogs":"', '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"'),
    ),
}
"""Parser -> how it reads a string, and beginnings after which the units are repeated."""


_REST = {
    "Base64Encode": "",
    "CommunityID": "1, log.body, 2",
    "Concat": None,
    "ContainsValue": None,
    "ConvertCase": '"snake"',
    "Decode": '"base64"',
    "ExtractGrokPatterns": '"%{SYSLOGLINE} %{URI:u} %{IP:i}"',
    "ExtractPatterns": '"(?P<a>(a*)*b)"',
    "Format": None,
    "GetXML": '"//a"',
    "HasPrefix": '"a"',
    "HasSuffix": '"a"',
    "Index": '"b"',
    "InsertXML": '"//a", "<b/>"',
    "IsInCIDR": '["10.0.0.0/8"]',
    "IsMatch": '"(a*)*b"',
    "ParseCSV": '"a,b", mode="lazyQuotes"',
    "ParseInt": "0",
    "ParseSeverity": '{"info": [{"equals": ["a"]}]}',
    "RemoveXML": '"//a"',
    "Split": '","',
    "Substring": "1, 3",
    "Time": '"%Y-%m-%d %b %H:%M:%S.%L %z"',
    "TrimPrefix": '"a"',
    "TrimSuffix": '"a"',
}
"""Further arguments of converters that read a text; None: the first is no text."""


def _converters() -> dict[str, Callable[[str], object]]:
    """Every converter whose first argument is a text, on the body of a log record."""
    found: dict[str, Callable[[str], object]] = {}
    for name, function in CONVERTERS.items():
        if not function.parameters or function.parameters[0].kind not in ("S", "S~", "A", "I~", "F~", "B~", "Y~"):
            continue
        rest = _REST.get(name, "")
        if rest is None or (function.contexts and "log" not in function.contexts):
            continue
        condition = parse_condition(f"{name}(body{', ' + rest if rest else ''}) == nil", "log", user="statements")

        def read(text: str, condition: Condition = condition) -> None:
            record = LogRecord()
            record.body.string_value = text
            with contextlib.suppress(EvaluationError):
                condition.matches(None, None, record)

        found[name] = read
    return found


_BEGINNINGS = {
    "ParseCEF": "CEF:0|a|b|c|d|e|f|",
    "ParseCLF": 'h - - [d] "',
    "ParseCSV": '"',
    "ParseELF": "#Fields: a\n",
    "ParseJSON": '{"a":',
    "ParseKeyValue": 'a="',
    "ParseLEEF": "LEEF:1.0|a|b|c|d|",
    "URL": "http://a/",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_converters()))
def test_converters_are_linear(name: str) -> None:
    read = _converters()[name]
    for prefix in ("", _BEGINNINGS.get(name, "<a>" if "XML" in name else "a")):
        for unit in UNITS:
            assert_linear(f"{name} {prefix!r} {unit!r}", read, lambda size, p=prefix, u=unit: p + u * (size // len(u)) + "!")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PARSERS))
def test_parsers_are_linear(name: str) -> None:
    read, prefixes = PARSERS[name]
    for prefix in prefixes:
        for unit in UNITS:
            assert_linear(f"{name} {prefix!r} {unit!r}", read, lambda size, p=prefix, u=unit: p + u * (size // len(u)) + "!")
