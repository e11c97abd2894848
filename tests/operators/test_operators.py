"""What each operator does, by example: upstream's documentation and tests say what is right."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.operators.chain import Chain


def value(v: dict[str, Any]) -> Any:
    """The Python value of an AnyValue as JSON."""
    inner: Any
    ((kind, inner),) = v.items() if v else [("", None)]
    if kind == "kvlistValue":
        return {p["key"]: value(p.get("value", {})) for p in inner.get("values", [])}
    if kind == "arrayValue":
        return [value(i) for i in inner.get("values", [])]
    return int(inner) if kind == "intValue" else inner


def run(
    operators: list[dict[str, Any]], *lines: str, attributes: dict[str, Any] | None = None, counts: Counter[str] | None = None
) -> list[dict[str, Any]]:
    counts = Counter() if counts is None else counts
    chain = Chain(
        operators,
        dropped=lambda r, n: counts.update({f"dropped {r}": n}),
        filtered=lambda r, n: counts.update({f"filtered {r}": n}),
        log=logging.getLogger("test.quiet"),
    )
    stream = chain.open(attributes or {})
    for line in lines:
        stream.feed_entries([line], 1)
    stream.flush(1, force=True)
    payload, _ = stream.take()
    out = []
    for group in MessageToDict(ExportLogsServiceRequest.FromString(payload)).get("resourceLogs", []):
        for scope in group["scopeLogs"]:
            for record in scope["logRecords"]:
                out.append(
                    {
                        "body": value(record.get("body", {})),
                        "attributes": {p["key"]: value(p.get("value", {})) for p in record.get("attributes", [])},
                        "resource": {p["key"]: value(p.get("value", {})) for p in group.get("resource", {}).get("attributes", [])},
                        "time": int(record.get("timeUnixNano", 0)),
                        "severity": record.get("severityNumber", "")[16:],
                        "text": record.get("severityText", ""),
                        "scope": scope.get("scope", {}).get("name", ""),
                        "trace": record.get("traceId", ""),
                        "span": record.get("spanId", ""),
                        "flags": record.get("flags", 0),
                    }
                )
    return out


def attributes(operators: list[dict[str, Any]], line: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    (record,) = run(operators, line, attributes=given)
    return record["attributes"]


def test_json_parser() -> None:
    line = '{"a":1,"b":1.5,"c":"x","d":[1,{"e":null}],"f":true,"big":123456789012345678901,"u":"\\ud800"}'
    got = attributes([{"type": "json_parser"}], line)
    assert got == {"a": 1.0, "b": 1.5, "c": "x", "d": [1.0, {"e": None}], "f": True, "big": 1.2345678901234568e20, "u": "\ufffd"}
    assert isinstance(got["a"], float)
    got = attributes([{"type": "json_parser", "parse_ints": True}], line)
    assert got["a"] == 1 and isinstance(got["a"], int) and got["big"] == 1.2345678901234568e20
    for bad in ("[1]", "{", "NaN", '{"a":NaN}', "x", '{"a":1e999}', "[" * 100_000, '{"a":' * 50_000):
        (record,) = run([{"type": "json_parser", "on_error": "send_quiet"}], bad)
        assert record["body"] == bad and record["attributes"] == {}


def test_deep_json_stays_readable() -> None:
    (record,) = run([{"type": "json_parser"}], '{"a":' * 60 + "1" + "}" * 60)
    assert "a" in record["attributes"]


def test_regex_parser_blocks() -> None:
    operators = [
        {
            "type": "regex_parser",
            "regex": r"^Host=(?P<host>[^,]+), Type=(?P<type>.*), At=(?P<at>.*)$",
            "parse_to": "attributes.in.ner",
            "timestamp": {"parse_from": "attributes.in.ner.at", "layout": "%Y-%m-%d %H:%M:%S %z"},
            "severity": {"parse_from": "attributes.in.ner.type"},
            "scope_name": {"parse_from": "attributes.in.ner.host"},
        }
    ]
    (record,) = run(operators, "Host=h1, Type=err, At=2026-11-21 10:44:28 +0100")
    assert record["attributes"] == {"in": {"ner": {"host": "h1", "type": "err", "at": "2026-11-21 10:44:28 +0100"}}}
    assert (record["time"], record["severity"], record["text"], record["scope"]) == (1795254268000000000, "ERROR", "err", "h1")


def test_parser_body() -> None:
    (record,) = run([{"type": "json_parser", "body": "attributes.msg"}], '{"msg":"hello","x":"y"}')
    assert record["body"] == "hello" and record["attributes"] == {"msg": "hello", "x": "y"}
    (record,) = run([{"type": "json_parser", "parse_to": "body"}], '{"msg":"hello"}')
    assert record["body"] == {"msg": "hello"}


@pytest.mark.parametrize(
    "options, line, want",
    [
        ({}, "name=stanza age=2", {"name": "stanza", "age": "2"}),
        ({}, "a=\"b c\" d='e f'", {"a": "b c", "d": "e f"}),
        ({"delimiter": ":", "pair_delimiter": "!"}, "a:b ! c:d", {"a": "b", "c": "d"}),
        ({}, "a=b=c", {"a": "b=c"}),
        ({}, "a", None),
        ({}, 'a="b', None),
        ({}, "", None),
    ],
)
def test_key_value_parser(options: dict[str, Any], line: str, want: Any) -> None:
    counts: Counter[str] = Counter()
    got = run([{"type": "key_value_parser", "on_error": "drop_quiet", **options}], line, counts=counts)
    assert [r["attributes"] for r in got] == ([] if want is None else [want])
    assert counts == ({"dropped operator/key_value_parser": 1} if want is None else {})


@pytest.mark.parametrize(
    "options, line, want",
    [
        ({"header": "a,b,c"}, "1,2,3", {"a": "1", "b": "2", "c": "3"}),
        ({"header": "a,b"}, '"x, ""y""",2', {"a": 'x, "y"', "b": "2"}),
        ({"header": "a,b"}, '"x\ny",2', {"a": "x\ny", "b": "2"}),
        ({"header": "a\tb", "delimiter": "\t"}, "1\t2", {"a": "1", "b": "2"}),
        ({"header": "a b", "delimiter": ",", "header_delimiter": " "}, "1,2", {"a": "1", "b": "2"}),
        ({"header_attribute": "cols"}, "1,2", {"cols": "x,y", "x": "1", "y": "2"}),
        ({"header": "a,b", "lazy_quotes": True}, 'x"y,2', {"a": 'x"y', "b": "2"}),
        ({"header": "a,b", "ignore_quotes": True}, '"x,2"', {"a": '"x', "b": '2"'}),
        ({"header": "a,b"}, "1,2,3", None),
        ({"header": "a,b"}, 'x"y,2', None),
        ({"header": "a,b"}, '"x,2', None),
    ],
)
def test_csv_parser(options: dict[str, Any], line: str, want: Any) -> None:
    given = {"cols": "x,y"} if "header_attribute" in options else {}
    got = run([{"type": "csv_parser", "on_error": "drop_quiet", **options}], line, attributes=given)
    assert [r["attributes"] for r in got] == ([] if want is None else [want])


@pytest.mark.parametrize(
    "line, want",
    [
        (
            "https://dev:pw@www.example.com:8443/a%20b?x=1&x=2&y=",
            {
                "scheme": "https",
                "user": "dev",
                "host": "www.example.com",
                "port": "8443",
                "path": "/a%20b",
                "query": {"x": ["1", "2"], "y": [""]},
            },
        ),
        ("/path?a=b", {"path": "/path", "query": {"a": ["b"]}}),
        ("?a=b", {"query": {"a": ["b"]}}),
        ("http://[::1]:80/", {"scheme": "http", "host": "::1", "port": "80", "path": "/"}),
        ("no uri", None),
        ("", None),
        ("http://x:port/", None),
        ("/%zz", None),
    ],
)
def test_uri_parser(line: str, want: Any) -> None:
    got = run([{"type": "uri_parser", "on_error": "drop_quiet"}], line)
    assert [r["attributes"] for r in got] == ([] if want is None else [want])


def test_half_a_character_is_no_defect_of_what_encodes_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "test.quiet")
    parsed = {"type": "json_parser", "parse_to": "body"}
    line = '{"u": "http://h/\\ud800?q=\\udc00", "t": "\\ud800"}'
    (uri,) = run([parsed, {"type": "uri_parser", "parse_from": "body.u"}], line)
    assert uri["attributes"]["path"] == "/%EF%BF%BD"
    (base64,) = run([parsed, {"type": "add", "field": "body.b", "value": "EXPR(toBase64(body.t))"}], line)
    assert base64["body"]["b"] == "77+9"
    assert not caplog.records


def test_syslog_rfc5424() -> None:
    line = (
        "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 8710 ID47 "
        '[exampleSDID@32473 iut="3" eventSource="App\\"lication"][b@1] \ufeffAn event'
    )
    (record,) = run([{"type": "syslog_parser", "protocol": "rfc5424"}], line)
    assert record["attributes"] == {
        "priority": 165,
        "facility": 20,
        "facility_text": "local4",
        "version": 1,
        "hostname": "mymachine.example.com",
        "appname": "evntslog",
        "proc_id": "8710",
        "msg_id": "ID47",
        "message": "An event",
        "structured_data": {"exampleSDID@32473": {"iut": "3", "eventSource": 'App"lication'}, "b@1": {}},
    }
    assert (record["severity"], record["text"], record["time"]) == ("INFO2", "notice", 1065910455003000000)
    framed = f"{len(line.encode())} {line}"
    assert run([{"type": "syslog_parser", "protocol": "rfc5424", "enable_octet_counting": True}], framed) == [
        {**record, "body": framed}
    ]
    for bad in ("<192>1 - - - - - -", "<1>1 - - - - -", "x", "<1>0 - a b c d -", "<1>1 2003-13-11T22:14:15Z a b c d -"):
        assert run([{"type": "syslog_parser", "protocol": "rfc5424", "on_error": "drop"}], bad) == []


def test_syslog_rfc3164() -> None:
    operators = [{"type": "syslog_parser", "protocol": "rfc3164", "location": "Europe/Berlin"}]
    (record,) = run(operators, "<34>Oct 11 22:14:15 mymachine su[12]: 'su root' failed: x")
    assert record["attributes"] == {
        "priority": 34,
        "facility": 4,
        "facility_text": "auth",
        "hostname": "mymachine",
        "appname": "su",
        "proc_id": "12",
        "message": "'su root' failed: x",
    }
    assert (record["severity"], record["text"]) == ("ERROR2", "crit") and record["time"]
    (record,) = run([{**operators[0], "allow_skip_pri_header": True}], "Oct 11 22:14:15 host app: message")
    assert record["attributes"] == {"hostname": "host", "appname": "app", "message": "message"}
    assert record["severity"] == ""
    bad = ("Oct 32 22:14:15 h t: m", "Oct 11 25:14:15 h t: m", "2026-02-30T10:00:00Z h t: m", "2026-01-01T1:00:00Z h", "x", "<13>")
    for line in (*bad, *["<13>" + line for line in bad], "<999>Oct 11 22:14:15 h t: m"):
        assert run([{**operators[0], "allow_skip_pri_header": True, "on_error": "drop"}], line) == []
    (record,) = run([{"type": "syslog_parser", "protocol": "none"}], "<13>anything")
    assert record["attributes"]["message"] == "<13>anything" and record["text"] == "notice"


_SSHD = {"hostname": "node-7", "appname": "sshd", "proc_id": "77", "message": "Accepted <1> key"}


@pytest.mark.parametrize("priority", ["", "<38>"])
@pytest.mark.parametrize(
    ("time", "want"),
    [
        ("2026-01-02T03:04:05.123456+01:00", 1767319445123456000),
        ("2026-01-02T03:04:05.123456789+0100", 1767319445123456789),
        ("2026-01-02T02:04:05Z", 1767319445000000000),
        ("2026-01-02T03:04:05", 1767319445000000000),
        ("2026-01-02 03:04:05,5", 1767319445500000000),
        ("Jan  2 2026 03:04:05", 1767319445000000000),
        ("Jan 2 2026 03:04:05.25:", 1767319445250000000),
        ("Jan 02 2026 03:04:05", 1767319445000000000),
        ("Jan 2 03:04:05", None),
        ("Jan 02 03:04:05.25", None),
    ],
)
def test_syslog_as_daemons_write_it(priority: str, time: str, want: int | None) -> None:
    options = {"type": "syslog_parser", "protocol": "rfc3164", "allow_skip_pri_header": True, "location": "Europe/Berlin"}
    for rest, found in (
        ("node-7 sshd[77]: Accepted <1> key", _SSHD),
        ("sshd[77]: Accepted <1> key", {k: v for k, v in _SSHD.items() if k != "hostname"}),
        ("node-7 kernel: [   12.345] up", {"hostname": "node-7", "appname": "kernel", "message": "[   12.345] up"}),
        ("kernel: up", {"appname": "kernel", "message": "up"}),
        ("fe80::1 postfix/smtpd[1]:x", {"hostname": "fe80::1", "appname": "postfix/smtpd", "proc_id": "1", "message": "x"}),
        ("n last message repeated 3 times", {"hostname": "n", "message": "last message repeated 3 times"}),
        (
            "n systemd-networkd-wait-online-for-it[1]:",
            {"hostname": "n", "appname": "systemd-networkd-wait-online-for-it", "proc_id": "1"},
        ),
    ):
        (record,) = run([{**options, "on_error": "drop"}], f"{priority}{time} {rest}")
        names = ("hostname", "appname", "proc_id", "message")
        assert {k: record["attributes"][k] for k in names if k in record["attributes"]} == found
        assert record["time"] == want if want else record["time"] % 10**15
        assert record["text"] == ("info" if priority else "")


@pytest.mark.parametrize(
    ("line", "time", "want"),
    [
        ("<13>1 - - - - - -", 0, {}),
        ("<13>1 2026-01-02T02:04:05.123456789Z h - - - - m", 1767319445123456789, {"hostname": "h", "message": "m"}),
        (
            "<13>1 - h a 1 - [x] m",
            0,
            {"hostname": "h", "appname": "a", "proc_id": "1", "structured_data": {"x": {}}, "message": "m"},
        ),
    ],
)
def test_any_field_of_rfc5424_may_be_nil(line: str, time: int, want: dict[str, Any]) -> None:
    (record,) = run([{"type": "syslog_parser", "protocol": "rfc5424", "on_error": "drop"}], line)
    known = {"priority", "facility", "facility_text", "version"}
    assert {k: v for k, v in record["attributes"].items() if k not in known} == want
    assert (record["time"], record["text"]) == (time, "notice")
    (record,) = run([{"type": "syslog_parser", "protocol": "rfc5424", "allow_skip_pri_header": True, "on_error": "drop"}], line[4:])
    assert record["time"] == time


@pytest.mark.parametrize(
    "options, line, want",
    [
        ({"layout": "%Y-%m-%dT%H:%M:%S.%LZ"}, "2026-11-21T10:44:28.123Z", 1795257868123000000),
        ({"layout": "%Y-%m-%d %H:%M:%S", "location": "America/New_York"}, "2026-11-21 05:44:28", 1795257868000000000),
        ({"layout": "%b %d %H:%M:%S %Y %Z"}, "Nov 21 10:44:28 2026 UTC", 1795257868000000000),
        ({"layout": "%d/%b/%Y:%I:%M:%S %p %z"}, "21/Nov/2026:10:44:28 AM -0000", 1795257868000000000),
        (
            {"layout_type": "gotime", "layout": "Mon Jan 2 15:04:05.000 -0700 2006"},
            "Sat Nov 21 10:44:28.500 +0000 2026",
            1795257868500000000,
        ),
        ({"layout_type": "gotime", "layout": "2006-01-02 03:04:05PM MST"}, "2026-11-21 10:44:28AM GMT", 1795257868000000000),
        (
            {"layout": "%Y-%m-%d %H:%M:%S %Z", "time_zone_locations": {"IST": "Asia/Kolkata"}},
            "2026-11-21 16:14:28 IST",
            1795257868000000000,
        ),
        ({"layout_type": "epoch", "layout": "s"}, "1795257868", 1795257868000000000),
        ({"layout_type": "epoch", "layout": "ms"}, "1795257868123", 1795257868123000000),
        ({"layout_type": "epoch", "layout": "s.us"}, "1795257868.000123", 1795257868000123000),
        ({"layout": "%Y-%m-%d"}, "2026-02-30", None),
        ({"layout": "%Y"}, "x", None),
        ({"layout_type": "epoch", "layout": "s"}, "1.5", None),
        ({"layout_type": "epoch", "layout": "s.ms"}, "15", None),
    ],
)
def test_time_parser(options: dict[str, Any], line: str, want: int | None) -> None:
    got = run([{"type": "time_parser", "parse_from": "body", "on_error": "drop_quiet", **options}], line)
    assert [r["time"] for r in got] == ([] if want is None else [want])


@pytest.fixture
def in_los_angeles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/Los_Angeles")
        time.tzset()
        yield
    time.tzset()


_ABBREVIATIONS = [
    ("", "2019-02-04 00:08:48 PST", 1549267728),
    ("", "2019-07-04 00:08:48 PDT", 1562224128),
    ("", "2019-07-04 00:08:48 PST", 1562227728),
    ("", "2019-11-03 01:30:00 PDT", 1572769800),
    ("", "2019-11-03 01:30:00 PST", 1572773400),
    ("", "2019-02-04 00:08:48 UTC", 1549238928),
    ("Local", "2019-02-04 00:08:48 PST", 1549267728),
    ("Europe/Berlin", "2019-02-04 00:08:48 CET", 1549235328),
    ("Europe/Berlin", "2019-07-04 00:08:48 CEST", 1562191728),
    ("Europe/Berlin", "2019-07-04 00:08:48 CET", 1562195328),
    ("Australia/Sydney", "2019-02-04 00:08:48 AEDT", 1549199328),
    ("Asia/Shanghai", "2019-02-04 00:08:48 CST", 1549210128),
    ("America/Chicago", "2019-02-04 00:08:48 CST", 1549260528),
    ("Europe/Moscow", "2013-02-04 00:00:00 MSK", 1359921600),
    ("Europe/Moscow", "2019-02-04 00:00:00 MSK", 1549227600),
]


@pytest.mark.usefixtures("in_los_angeles")
@pytest.mark.parametrize(("location", "line", "want"), [*_ABBREVIATIONS, ("Europe/Berlin", "2019-02-04 00:08:48 PST", None)])
@pytest.mark.parametrize(
    "layout",
    [
        {"layout": "%Y-%m-%d %H:%M:%S %Z"},
        {"layout_type": "gotime", "layout": "2006-01-02 15:04:05 MST"},
    ],
    ids=["strptime", "gotime"],
)
def test_abbreviations_are_those_of_the_location(layout: dict[str, Any], location: str, line: str, want: int | None) -> None:
    got = run([{"type": "time_parser", "parse_from": "body", "on_error": "drop_quiet", "location": location, **layout}], line)
    assert [r["time"] for r in got] == ([] if want is None else [want * 10**9])


@pytest.mark.usefixtures("in_los_angeles")
def test_a_layout_that_ends_in_the_letter_is_of_utc_and_others_are_of_this_machine() -> None:
    for layout, line, want in (
        ("%Y-%m-%d %HZ", "2019-02-04 00Z", 1549238400),
        ("%Y-%m-%d %H%%Z", "2019-02-04 00%Z", 1549238400),
        ("%Y-%m-%d %H", "2019-02-04 00", 1549267200),
    ):
        (record,) = run([{"type": "time_parser", "parse_from": "body", "layout": layout}], line)
        assert record["time"] == want * 10**9
    zones = {"time_zone_locations": {"IST": "Asia/Kolkata", "EST": "America/New_York"}}
    for line, want in (("2019-07-04 00 IST", 1562178600), ("2019-07-04 00 EST", 1562216400)):
        (record,) = run([{"type": "time_parser", "parse_from": "body", "layout": "%Y-%m-%d %H %Z", **zones}], line)
        assert record["time"] == want * 10**9


@pytest.mark.parametrize(
    "options, line, want",
    [
        ({}, "warning2", ("WARN2", "warning2")),
        ({"preset": "otel"}, "err", ("", "err")),
        ({"preset": "none"}, "info", ("", "info")),
        ({"mapping": {"error": "oops", "warn": ["4xx"], "fatal": {"min": 500, "max": 501}}}, "OOPS", ("ERROR", "OOPS")),
        ({"mapping": {"warn": ["4xx"]}, "overwrite_text": True}, "404", ("WARN", "WARN")),
        ({"mapping": {"fatal": [{"min": 500, "max": 501}]}}, "501", ("FATAL", "501")),
        ({"mapping": {"info": [60]}}, "60", ("INFO", "60")),
    ],
)
def test_severity_parser(options: dict[str, Any], line: str, want: Any) -> None:
    (record,) = run([{"type": "severity_parser", "parse_from": "body", **options}], line)
    assert (record["severity"], record["text"]) == want


def test_severity_of_numbers() -> None:
    operators: list[dict[str, Any]] = [
        {"type": "json_parser"},
        {"type": "severity_parser", "parse_from": "attributes.s", "mapping": {"error": [60]}, "on_error": "drop_quiet"},
    ]
    assert run(operators, '{"s":60}')[0]["severity"] == "ERROR"
    assert run(operators, '{"s":1.5}') == run(operators, '{"s":{}}') == run(operators, "{}") == []


def test_trace_parser() -> None:
    line = '{"trace_id":"480140f3d770a5ae32f0a22b6a812cff","span_id":"92c3792d54ba94f3","trace_flags":"01"}'
    (record,) = run([{"type": "json_parser", "parse_to": "body"}, {"type": "trace_parser"}], line)
    assert (record["trace"], record["span"], record["flags"]) == ("SAFA89dwpa4y8KIraoEs/w==", "ksN5LVS6lPM=", 1)
    assert (
        run([{"type": "json_parser", "parse_to": "body"}, {"type": "trace_parser", "on_error": "drop"}], '{"trace_id":"zz"}') == []
    )


def test_fields() -> None:
    given = {"a": "1", "m": {"x": "y", "z": {"w": "v"}}, "l": ["p", "q"]}

    def got(*operators: dict[str, Any]) -> Any:
        (record,) = run(list(operators), "line", attributes=given)
        return record["body"], record["attributes"], record["resource"]

    assert got({"type": "add", "field": "attributes.b", "value": "EXPR(body + attributes.a)"})[1]["b"] == "line1"
    assert got({"type": "add", "field": 'resource["r.s"]', "value": {"k": [1, "x"]}})[2] == {"r.s": {"k": [1, "x"]}}
    assert got({"type": "copy", "from": "attributes.m", "to": "attributes.n.o"})[1]["n"] == {"o": given["m"]}
    assert got({"type": "move", "from": "attributes.m.z", "to": "body"}) == (
        {"w": "v"},
        {"a": "1", "m": {"x": "y"}, "l": ["p", "q"]},
        {},
    )
    assert got({"type": "move", "from": "body", "to": "body.text"})[0] == {"text": "line"}
    assert got({"type": "remove", "field": "attributes"})[1] == {}
    assert got({"type": "retain", "fields": ["attributes.m.x", "attributes.nope"]})[:2] == ("line", {"m": {"x": "y"}})
    assert got({"type": "flatten", "field": "attributes.m"})[1] == {"a": "1", "x": "y", "z": {"w": "v"}, "l": ["p", "q"]}
    assert got({"type": "assign_keys", "field": "attributes.l", "keys": ["k", "j"]})[1]["l"] == {"k": "p", "j": "q"}
    assert got({"type": "regex_replace", "field": "body", "regex": "(l)(?P<i>i)", "replace_with": "$2${1}$$$x"})[0] == "il$ne"
    assert got({"type": "regex_replace", "field": "body", "regex": "x*", "replace_with": "-"})[0] == "-l-i-n-e-"


@pytest.mark.parametrize(
    "text, want",
    [
        ('"a\\tb\\"\\u00e9\\xc3\\xa9\\101"', 'a\tb"\u00e9\u00e9A'),
        ("`a\\n`", "a\\n"),
        ("'x'", "x"),
        ("'\\n'", "\n"),
        ("plain", None),
        ('"open', None),
        ("'xy'", None),
        ('"bad \\q"', None),
        ('"', None),
        ("", None),
    ],
)
def test_unquote(text: str, want: str | None) -> None:
    got = run([{"type": "unquote", "field": "body", "on_error": "drop_quiet"}], text)
    assert [r["body"] for r in got] == ([] if want is None else [want])


def test_ansi_sequences() -> None:
    (record,) = run([{"type": "regex_replace", "regex_name": "ansi_control_sequences"}], "\x1b[31mred\x1b[0m")
    assert record["body"] == "red"


def test_filter_and_router_are_counted() -> None:
    counts: Counter[str] = Counter()
    assert len(run([{"type": "filter", "id": "f", "expr": 'body contains "x"'}], "x", "y", counts=counts)) == 1
    operators: list[dict[str, Any]] = [
        {
            "type": "router",
            "id": "r",
            "routes": [
                {"expr": 'body startsWith "a"', "output": "one", "attributes": {"k": "v-EXPR(body)"}},
                {"expr": 'body startsWith "b"', "output": ["one", "two"]},
                {"expr": 'body == "d"', "output": "gone"},
            ],
        },
        {"type": "add", "id": "one", "field": "attributes.path", "value": "one", "output": "end"},
        {"type": "add", "id": "two", "field": "attributes.path", "value": "two", "output": "end"},
        {"type": "drop_output", "id": "gone"},
        {"type": "noop", "id": "end"},
    ]
    got = run(operators, "a", "b", "c", "d", counts=counts)
    assert [(r["body"], r["attributes"]) for r in got] == [
        ("a", {"k": "v-a", "path": "one"}),
        ("b", {"path": "one"}),
        ("b", {"path": "two"}),
    ]
    assert counts == {"filtered operator/f": 1, "filtered operator/r": 1, "filtered operator/gone": 1}


@pytest.mark.parametrize(
    "splitter",
    [{"type": "noop", "output": ["one", "two"]}, {"type": "router", "routes": [{"expr": "true", "output": ["one", "two"]}]}],
)
def test_every_output_gets_an_entry_that_no_other_changes(splitter: dict[str, Any]) -> None:
    operators: list[dict[str, Any]] = [
        {"type": "json_parser", "parse_to": "body"},
        splitter,
        {"type": "add", "id": "one", "field": "body.map.one", "value": 1, "output": "end"},
        {"type": "add", "id": "two", "field": "body.map.two", "value": 2, "output": "end"},
        {"type": "noop", "id": "end"},
    ]
    assert [r["body"] for r in run(operators, '{"map":{}}')] == [{"map": {"one": 1}}, {"map": {"two": 2}}]


def test_filter_ratio() -> None:
    counts: Counter[str] = Counter()
    assert len(run([{"type": "filter", "expr": "true", "drop_ratio": 0}], *["x"] * 20, counts=counts)) == 20
    got = len(run([{"type": "filter", "expr": "true", "drop_ratio": 0.5}], *["x"] * 400, counts=counts))
    assert 100 < got < 300 and counts["filtered operator/filter"] == 400 - got


def test_recombine() -> None:
    first = {"type": "recombine", "combine_field": "body", "is_first_entry": 'body matches "^[^ ]"'}
    assert [r["body"] for r in run([first], "a", " b", " c", "d", " e")] == ["a\n b\n c", "d\n e"]
    last = {"type": "recombine", "combine_field": "body", "combine_with": "", "is_last_entry": 'body endsWith "."'}
    assert [r["body"] for r in run([last], "a", "b.", "c", "d")] == ["ab.", "cd"]
    assert [r["body"] for r in run([{**first, "max_batch_size": 2}], "a", " b", " c")] == ["a\n b", " c"]
    assert [r["body"] for r in run([{**last, "max_log_size": 3}], "ab", "cd", "e.")] == ["abcd", "e."]
    joined = {**last, "combine_with": "--", "max_log_size": 5}
    assert [r["body"] for r in run([joined], "ab", "cd", "e.")] == ["ab--cd", "e."], "what joins them counts"
    assert [r["body"] for r in run([{**last, "max_log_size": 4}], "ab", "cd", "e.")] == ["abcde."], "exactly that size passes"
    assert [r["body"] for r in run([{**last, "max_unmatched_batch_size": 1}], "a", "b", "c.")] == ["a", "b", "c."]
    newest = [{"type": "regex_parser", "regex": "(?P<x>.)"}, {**last, "overwrite_with": "newest"}]
    assert [(r["body"], r["attributes"]["x"]) for r in run(newest, "a", "b.")] == [("ab.", "b")]


def test_recombine_flushes_after_its_period() -> None:
    chain = Chain(
        [{"type": "recombine", "combine_field": "body", "is_last_entry": "false", "force_flush_period": "2s"}],
        dropped=lambda r, n: None,
        filtered=lambda r, n: None,
        log=logging.getLogger("test.quiet"),
    )
    stream = chain.open({})
    stream.feed_chunk(b"a\nb\n", 10**9)
    assert stream.held == 2 and stream.take() == (b"", 0)
    stream.flush(10**9 + 1_999_999_999, force=False)
    assert stream.held == 2
    stream.flush(3 * 10**9, force=False)
    assert stream.held == 0 and stream.take()[1] == 1


CRI = "2026-11-21T10:44:28.000000001Z"
POD = {"log.file.path": "/var/log/pods/ns_pod_2ea1b0ce-52ac-4a3c-9a21-4b4c9bd0a2e4/app/4.log"}


def test_container() -> None:
    (record,) = run([{"type": "container"}], f"{CRI} stderr F hello", attributes=POD)
    assert record["body"] == "hello" and record["time"] == 1795257868000000001
    assert record["attributes"] == {**POD, "log.iostream": "stderr", "logtag": "F"}
    assert record["resource"] == {
        "k8s.container.name": "app",
        "k8s.namespace.name": "ns",
        "k8s.pod.name": "pod",
        "k8s.container.restart_count": "4",
        "k8s.pod.uid": "2ea1b0ce-52ac-4a3c-9a21-4b4c9bd0a2e4",
    }


def test_container_joins_partial_lines_per_stream() -> None:
    got = run(
        [{"type": "container"}],
        f"{CRI} stdout P one ",
        f"{CRI} stderr P two ",
        f"{CRI} stdout F 1",
        f"{CRI} stderr F 2",
        f"{CRI} stdout P rest",
        attributes=POD,
    )
    assert [(r["body"], r["attributes"]["log.iostream"]) for r in got] == [
        ("one 1", "stdout"),
        ("two 2", "stderr"),
        ("rest", "stdout"),
    ]
    got = run(
        [{"type": "container", "max_log_size": 5}],
        f"{CRI} stdout P 1234",
        f"{CRI} stdout P 5678",
        f"{CRI} stdout F 9",
        attributes=POD,
    )
    assert [r["body"] for r in got] == ["12345678", "9"]


def test_container_errors() -> None:
    counts: Counter[str] = Counter()
    assert run([{"type": "container", "on_error": "drop_quiet"}], "nonsense", f"{CRI} stdout F x", counts=counts) == []
    assert counts == {"dropped operator/container": 2}  # the second has no path
    (record,) = run([{"type": "container", "add_metadata_from_filepath": False}], f"{CRI} stdout F x")
    assert record["body"] == "x" and record["resource"] == {}
    (record,) = run([{"type": "container", "format": "docker", "on_error": "send_quiet"}], f"{CRI} stdout F x", attributes=POD)
    assert record["body"] == f"{CRI} stdout F x"


def test_on_error_and_if() -> None:
    for mode, n in (("send", 1), ("send_quiet", 1), ("drop", 0), ("drop_quiet", 0)):
        counts: Counter[str] = Counter()
        assert (
            len(run([{"type": "move", "id": "m", "from": "attributes.x", "to": "body", "on_error": mode}], "a", counts=counts)) == n
        )
        assert counts["dropped operator/m"] == 1 - n
    operators = [{"type": "add", "field": "attributes.x", "value": 1, "if": 'body == "a"'}]
    assert [r["attributes"] for r in run(operators, "a", "b")] == [{"x": 1}, {}]
    # An expression that cannot be evaluated is an error of the operator.
    assert run([{"type": "noop", "if": "attributes.x.y == 1", "on_error": "drop"}], "a") == []


def test_errors_are_logged_rarely(caplog: pytest.LogCaptureFixture) -> None:
    run([{"type": "json_parser"}], *["x"] * 50)
    assert len(caplog.records) == 1 and "x" not in caplog.records[0].getMessage().split("operator json_parser")[1][:3]


def test_invalid_utf8() -> None:
    chain = Chain([], dropped=lambda r, n: None, filtered=lambda r, n: None, log=logging.getLogger("test.quiet"))
    stream = chain.open({})
    stream.feed_chunk(b"a\xffb\n\xc3\n\xe6\x97\n", 1)
    request = ExportLogsServiceRequest.FromString(stream.take()[0])
    assert [r.body.string_value for r in request.resource_logs[0].scope_logs[0].log_records] == ["a\ufffdb", "\ufffd", "\ufffd"]


def test_retain_leaves_other_roots_alone() -> None:
    operators: list[dict[str, Any]] = [
        {"type": "json_parser", "parse_to": "body"},
        {"type": "retain", "fields": ["body.a", "resource.r"]},
    ]
    (record,) = run(operators, '{"a":1,"b":2}', attributes={"x": "y"})
    assert record["body"] == {"a": 1} and record["attributes"] == {"x": "y"}
