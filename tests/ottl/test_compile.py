"""Compiled statements and conditions against the evaluator: the same records, and the same complaints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from kofagent.ottl import Env, EvaluationError, OttlError, parse_condition, parse_statement
from kofagent.ottl.compile import Slow, condition_of
from kofagent.ottl.items import items
from kofagent.ottl.messages import read, read_request
from kofagent.processors.transform.config import Config, Group
from kofagent.processors.transform.groups import Evaluated, joined, runner
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp
from tests.ottl import running
from tests.support.otlp import REQUEST, requests, set_value

SIGNALS = {"log": "logs", "span": "traces", "metric": "metrics", "datapoint": "metrics", "resource": "logs", "scope": "metrics"}
_VALUES = ["", "x", "a", "12", "error: b", 3, 1.5, True, None, ["x", 1], {"a": {"b": "x"}}, b"x", "x" * 200]
_KEYS = ["a", "b", "a.b", "x"]
_PLACES = {
    "log": ["body", 'body["a"]', "severity_text", "severity_number", "event_name", "time_unix_nano", "trace_id.string", "flags"],
    "span": ["name", "kind", "status.code", "end_time_unix_nano", "span_id.string", "kind.string"],
    "metric": ["name", "unit", "description", "type"],
    "datapoint": ["metric.name", "metric.type", "time_unix_nano", "value_int"],
    "resource": ["dropped_attributes_count"],
    "scope": ["name", "version"],
}
_around = st.sampled_from(["resource", "scope"])
_key = st.sampled_from(_KEYS)


def _map(context: str) -> str:
    return "metadata" if context == "metric" else "attributes"


def _paths(context: str) -> st.SearchStrategy[str]:
    own = st.builds(f'{_map(context)}["{{}}"]'.format, _key)
    deeper = st.builds(f'{_map(context)}["{{}}"]["{{}}"]'.format, _key, _key)
    cache = st.builds('cache["{}"]'.format, _key)
    outer = st.builds('{}.attributes["{}"]'.format, _around if context not in ("resource", "scope") else st.just("resource"), _key)
    return st.one_of(own, own, st.sampled_from(_PLACES[context]), outer, cache, deeper)


def _values(context: str) -> st.SearchStrategy[str]:
    literal = st.sampled_from(['"x"', '"error: b"', '""', "3", "1.5", "true", "nil", '["x", 1]', '{"a": "x"}', "0x78"])
    base = st.one_of(literal, _paths(context), _paths(context))
    return st.one_of(
        base,
        base,
        st.builds('Concat([{}, {}], "-")'.format, base, base),
        st.builds("{}({})".format, st.sampled_from(["Int", "String", "Len", "ToUpperCase", "ParseJSON"]), base),
        st.builds('Split({}, "")[0]'.format, base),
        st.builds("{} + {}".format, _paths(context), _paths(context)),
        st.builds("[{}, {}]".format, base, base),
    )


def _conditions(context: str) -> st.SearchStrategy[str]:
    test = st.one_of(
        st.builds("{} {} {}".format, _paths(context), st.sampled_from(["==", "!=", "<", ">="]), _values(context)),
        st.builds('IsMatch({}, "{}")'.format, _paths(context), st.sampled_from(["err", "^x", ""])),
        st.builds("{}({})".format, st.sampled_from(["IsString", "IsMap", "IsInt", "Bool"]), _paths(context)),
        st.sampled_from(["true", "1 == 1"]),
    )
    return st.one_of(
        test,
        st.builds("not ({})".format, test),
        st.builds("({} {} {})".format, test, st.sampled_from(["and", "or"]), test),
    )


def _editors(context: str) -> st.SearchStrategy[str]:
    path, value = _paths(context), _values(context)
    whole = st.sampled_from([_map(context), _map(context), "cache", 'cache["a"]', f'{_map(context)}["a"]'])
    source = st.one_of(whole, st.just("resource.attributes"), st.just('{"a": 1, "c": {"d": "x"}}'), value)
    return st.one_of(
        st.builds("set({}, {})".format, path, value),
        st.builds("set({}, {})".format, whole, source),
        st.builds(
            '{}({}, "{}")'.format, st.sampled_from(["delete_key", "delete_matching_keys", "keep_matching_keys"]), whole, _key
        ),
        st.builds('keep_keys({}, ["a", "{}"])'.format, whole, _key),
        st.builds('merge_maps({}, {}, "{}")'.format, whole, source, st.sampled_from(["insert", "update", "upsert"])),
        st.builds('replace_pattern({}, "(x|r)", "<$1>"{})'.format, path, st.sampled_from(["", ", SHA256"])),
        st.builds('replace_match({}, "e*", "y")'.format, path),
        st.builds('replace_all_patterns({}, "value", "x", "yy")'.format, whole),
        st.builds("append({}, {})".format, path, value),
        st.builds("clear({})".format, path),
        st.builds("flatten({})".format, whole),
        st.builds("truncate_all({}, 2)".format, whole),
        st.builds('limit({}, 1, ["a"])'.format, whole),
    )


def _statement(context: str) -> st.SearchStrategy[str]:
    editor = _editors(context)
    return st.one_of(editor, st.builds("{} where {}".format, editor, _conditions(context)))


def _sprinkled(request: Any, choices: bytes) -> bytes:
    """The request with attributes, bodies and texts that the statements ask for."""
    given = iter(choices)

    def some(items: Any) -> None:
        there = {item.key for item in items}
        for key in _KEYS:
            if next(given, 0) % 2 and key not in there:
                set_value(items.add(key=key).value, _VALUES[next(given, 0) % len(_VALUES)])

    def walk(message: Any) -> None:
        for field, value in message.ListFields():
            if field.name in ("attributes", "body", "exemplars", "events", "links"):
                continue
            if field.message_type is not None:
                for each in value if field.is_repeated else [value]:
                    walk(each)
        names = message.DESCRIPTOR.fields_by_name
        if "attributes" in names:
            some(message.attributes)
        if "metadata" in names:
            some(message.metadata)
        if "body" in names and next(given, 0) % 2:
            message.body.Clear()
            set_value(message.body, _VALUES[next(given, 0) % len(_VALUES)])
        for name in ("severity_text", "name", "unit"):
            if name in names and next(given, 0) % 3 == 0:
                setattr(message, name, ["x", "a", "error: b"][next(given, 0) % 3])

    walk(request)
    return request.SerializeToString()  # type: ignore[no-any-return]


def _read(signal: str, payload: bytes) -> Any:
    """The request; resources, scopes and values that are empty and those that are not there are the same."""
    request = read_request(signal, payload)
    for entry in getattr(request, request.DESCRIPTOR.fields[0].name):
        entry.resource.SetInParent()
        for scope in getattr(entry, entry.DESCRIPTOR.fields[1].name):
            scope.scope.SetInParent()
            for record in getattr(scope, "log_records", ()):
                for item in record.attributes:
                    item.value.SetInParent()
    return request


def _told(texts: list[tuple[str, str]]) -> Any:
    def report(group: Group, text: str, error: EvaluationError | None) -> None:
        # The evaluator says more often in which argument it was.
        texts.append((text, str(error).rpartition(": ")[2]))

    return report


def _same(context: str, conditions: list[str], statements: list[str], payload: bytes) -> bool:
    """Compares the ways to run a group. Whether it was compiled."""
    signal = SIGNALS[context]
    try:
        parsed = [parse_statement(text, context) for text in statements], [parse_condition(text, context) for text in conditions]
    except OttlError:
        return False  # a literal that does not fit
    group = Group("g", context, *parsed, "ignore", False)
    told: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    fast, slow = runner(group, signal, _told(told[0])), Evaluated(group, signal, _told(told[1]))
    for _ in range(2):
        got, want = fast.run(payload, None), slow.run(payload, None)
        assert _read(signal, got) == _read(signal, want), fast.explain()
        assert {*told[0]} == {*told[1]}
    return not isinstance(fast, Evaluated)


@pytest.mark.parametrize("context", SIGNALS)
@given(st.data())
def test_same_as_the_evaluator(context: str, data: st.DataObject) -> None:
    payload = _sprinkled(data.draw(requests(SIGNALS[context])), data.draw(st.binary(max_size=200)))
    conditions = data.draw(st.lists(_conditions(context), max_size=2)) if data.draw(st.booleans()) else []
    _same(context, conditions, data.draw(st.lists(_statement(context), min_size=1, max_size=4)), payload)


@pytest.mark.parametrize("context", ["log", "datapoint"])
@given(st.data())
def test_groups_that_are_done_together_make_what_each_makes_after_the_other(context: str, data: st.DataObject) -> None:
    signal = SIGNALS[context]
    payload = _sprinkled(data.draw(requests(signal)), data.draw(st.binary(max_size=200)))
    told: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    groups = []
    for texts in data.draw(st.lists(st.lists(_statement(context), min_size=1, max_size=2), min_size=2, max_size=3)):
        try:
            groups.append(Group("g", context, [parse_statement(text, context) for text in texts], [], "ignore", False))
        except OttlError:
            return
    got = want = payload
    for fast in joined([runner(group, signal, _told(told[0])) for group in groups]):
        got = fast.run(got, None)
    for group in groups:
        want = Evaluated(group, signal, _told(told[1])).run(want, None)
    assert _read(signal, got) == _read(signal, want)
    assert {*told[0]} == {*told[1]}


def test_which_groups_are_done_together() -> None:
    def groups(*texts: str, mode: str = "ignore", context: str = "datapoint") -> int:
        found = [Group("g", context, [parse_statement(text, context)], [], mode, False) for text in texts]
        return len(joined([runner(group, SIGNALS[context], _told([])) for group in found]))

    one, asks = 'set(attributes["a"], "x")', 'set(attributes["b"], "x") where attributes["a"] == "x"'
    assert groups(one, one, one) == 1
    assert groups(one, one, context="log") == 1
    assert groups(one, asks) == 2
    assert groups(asks, one) == 2
    assert groups(one, one, mode="propagate") == 2
    assert groups(one, 'set(metric.name, "x")', one) == 3


@pytest.mark.parametrize("context", ["log", "span"])
@given(st.data())
def test_conditions_say_what_the_evaluator_says(context: str, data: st.DataObject) -> None:
    signal = SIGNALS[context]
    payload = _sprinkled(data.draw(requests(signal)), data.draw(st.binary(max_size=200)))
    try:
        condition = parse_condition(data.draw(_conditions(context)), context)
    except OttlError:
        return
    compiled = condition_of([condition], context)
    if compiled is None:
        return
    request = read_request(signal, payload)
    failures: list[str] = []
    want: list[bool] = []
    for env in items(context, request):
        try:
            want.append(condition.test(env))
        except EvaluationError:
            failures.append("failed")
            want.append(False)
    if not compiled.wanted(payload):
        assert not any(want)
        assert not failures
    got: list[bool] = []
    for entry in otlp.resources(payload):
        for scope in entry.scopes:
            env = Env(read("resource", entry.resource), read("scope", scope.scope))
            env.resource_entry, env.scope_entry = entry, scope
            records = list(scope.records)
            try:
                got += compiled.bind(env, lambda *_: failures.remove("failed"))(records)  # type: ignore[arg-type]
            except Slow:
                return
    assert got == want
    assert not failures


def _records(*records: LogRecord) -> bytes:
    request = REQUEST["logs"]()
    request.resource_logs.add().scope_logs.add().log_records.extend(records)
    return request.SerializeToString()  # type: ignore[no-any-return]


def _record(**texts: str) -> LogRecord:
    record = LogRecord(severity_text="info", time_unix_nano=1)
    record.body.string_value = "body"
    for key, value in texts.items():
        record.attributes.add(key=key).value.string_value = value
    return record


def _run(statements: list[str], payload: bytes, conditions: tuple[str, ...] = ()) -> bytes:
    assert _same("log", list(conditions), statements, payload)
    parsed = [parse_statement(text, "log") for text in statements], [parse_condition(text, "log") for text in conditions]
    return runner(Group("g", "log", *parsed, "ignore", False), "logs", _told([])).run(payload, None)


@pytest.mark.parametrize(
    "statement",
    [
        'delete_key(attributes, "secret")',
        'set(attributes["secret"], "x")',
        'keep_keys(attributes, ["a"])',
        'delete_matching_keys(attributes, "sec")',
        'replace_pattern(attributes["secret"], ".", "x")',
    ],
)
def test_what_looks_like_an_attribute_elsewhere_stays(statement: str) -> None:
    record = _record(a="b", secret="CANARY", z="secret")
    whole = record.SerializeToString()
    begin = whole.index(b"2\x12\n\x06secret")
    record.body.string_value = whole[begin : begin + 20].decode() + "secret"
    changed = _run([statement], _records(record, record))
    assert REQUEST["logs"].FromString(changed).resource_logs[0].scope_logs[0].log_records[0].body == record.body
    assert b"CANARY" not in changed.replace(record.body.SerializeToString(), b"")


_LOOKS_LIKE_ONE = b"2\x12\n\x06secret\x12\x08\n\x06CANARY"


@pytest.mark.parametrize("there", ["body", "value", "inside a map"])
@pytest.mark.parametrize(
    "statement", ['delete_key(attributes, "secret")', 'set(attributes["secret"], "x")', 'merge_maps(attributes, body, "upsert")']
)
def test_what_looks_like_the_only_attribute_of_a_key_is_none(statement: str, there: str) -> None:
    record = _record(a="b")
    if there == "body":
        record.body.string_value = _LOOKS_LIKE_ONE.decode()
    elif there == "value":
        record.attributes.add(key="z").value.string_value = _LOOKS_LIKE_ONE.decode()
    else:
        record.attributes.add(key="z").value.kvlist_value.values.add(key="secret").value.string_value = "CANARY"
    changed = REQUEST["logs"].FromString(_run([statement], _records(record))).resource_logs[0].scope_logs[0].log_records[0]
    assert _LOOKS_LIKE_ONE in record.SerializeToString() or there == "inside a map"
    assert changed.body == record.body
    assert list(changed.attributes)[: len(record.attributes)] == list(record.attributes)


@pytest.mark.parametrize(
    "statements",
    [
        ['set(attributes["added"], "x")', 'merge_maps(attributes, {"b": 1, "a": 2}, "insert")'],
        ['set(attributes["added"], resource.attributes["none"])', 'merge_maps(attributes, {"added": "y"}, "upsert")'],
        ['set(attributes["added"], "x")', 'set(attributes["added"], "y")', 'merge_maps(attributes, {"added": "z"}, "insert")'],
        ['set(attributes["added"], resource.attributes["none"])'],
        ['set(attributes["added"], "x")', 'merge_maps(attributes, {"b": 1}, "update")'],
    ],
)
def test_what_is_only_added_is_not_added_where_it_is(statements: list[str]) -> None:
    plain = [_record(c=str(i)) for i in range(70)]
    _run(statements, _records(*plain, *plain, _record(added="old"), _record(c="added"), _record(b="old"), *plain))
    _run(statements, _records(*plain))


def test_a_cache_of_items_is_empty_for_each_and_known_to_what_is_not_compiled() -> None:
    statements = [
        'set(attributes["before"], cache["x"])',
        'merge_maps(cache, {"x": body, "y": {"z": severity_text}}, "upsert")',
        'merge_maps(cache, {"x": 1, "w": "new"}, "insert")',
        'merge_maps(cache, {"y": [severity_text], "v": 1}, "update") where attributes["a"] == "2"',
        'delete_key(cache, "w") where attributes["a"] == "2"',
        'keep_keys(cache, ["x", "y", attributes["none"]]) where attributes["a"] == "0"',
        'keep_keys(cache, ["x", "y"]) where attributes["a"] == "1"',
        'merge_maps(cache, {"t": Time("2026", "%Y"), "u": body}, "upsert") where attributes["a"] == "3"',
        'set(cache, {"b": cache["y"]}) where attributes["a"] == "4"',
        'merge_maps(attributes, cache, "upsert") where IsMap(cache)',
        'set(body, cache["y"]["z"])',
    ]
    payload = _records(*(_record(a=str(i), x="attribute") for i in range(5)))
    for n in range(1, len(statements) + 1):
        assert _same("log", [], statements[:n], payload)
        assert _same("log", ['cache["x"] == nil'], statements[:n], payload)


def test_a_key_that_comes_twice_goes_twice() -> None:
    record = _record(a="b", secret="CANARY")
    for _ in range(1000):
        record.attributes.add(key="secret").value.string_value = "CANARY"
    assert b"CANARY" not in _run(['delete_key(attributes, "secret")'], _records(record))


def test_a_body_that_is_replaced_is_gone() -> None:
    assert b"body" not in _run(['set(body, "x")', 'set(severity_text, "x")'], _records(_record(a="b")))


def test_attributes_as_no_known_writer_writes_them() -> None:
    """The value before the key, a length of two bytes, a key without a value, a value that is no UTF-8, tags of two and three bytes."""
    odd = [b"\x12\x03\n\x01v\n\x01a", b"\n\x81\x00a\x12\x03\n\x01v", b"\n\x01a", b"\n\x01a\x12\x04\n\x02\xffv", b"\x12\x03\n\x01v"]
    odd += [b"\n\x01a\x12" + bytes([len(tag) + 8]) + tag + b"\0" * 6 + b"\xf0\x7f" for tag in (b"!", b"\xa1\x00", b"\xa1\x80\x00")]
    for pair in odd:
        data = _record(b="c").SerializeToString() + b"2" + bytes([len(pair)]) + pair
        payload = otlp.build_resource([otlp.build_scope([data])])
        for statement in (
            'set(attributes["x"], attributes["a"])',
            'set(attributes["a"], "new")',
            'delete_key(attributes, "a")',
            'keep_keys(attributes, ["a"])',
            'merge_maps(attributes, {"a": 1, "": 2}, "insert")',
            'delete_key(attributes, "")',
            'set(body, "x") where attributes["a"] == "v"',
            'set(body, "x") where attributes["a"] == nil',
            'set(body, "x") where IsMatch(attributes["a"], "^literal")',
            'set(body, attributes)',
        ):  # fmt: skip
            assert _same("log", [], [statement], payload)


def test_what_no_statement_asks_for_is_not_looked_into() -> None:
    malformed = otlp.build_resource([otlp.build_scope([b"\xff\xff"])])
    assert _run_raw('set(body, "x") where attributes["path"] == "/a"', malformed) is malformed
    kept = _record(path="/b").SerializeToString()
    payload = otlp.build_resource([otlp.build_scope([kept, _record(path="/a").SerializeToString()])])
    changed = _run_raw('set(body, "x") where attributes["path"] == "/a"', payload)
    assert changed != payload
    assert next(iter(next(iter(otlp.resources(changed))).scopes[0].records)) == kept


def _run_raw(statement: str, payload: bytes) -> bytes:
    group = Group("g", "log", [parse_statement(statement, "log")], [], "ignore", False)
    return runner(group, "logs", _told([])).run(payload, None)


def test_statements_of_kof_are_compiled() -> None:
    for name, case in running.all_cases():
        if name.startswith("kof/"):
            for options in case["config"].values():
                signal = Signal.LOGS if "log_statements" in options else Signal.METRICS
                for group in Config.model_validate(options).groups(signal):
                    how = runner(group, signal.value, _told([]))
                    assert not isinstance(how, Evaluated), name
                    if any("ExtractGrokPatterns" in statement.text for statement in group.statements):
                        assert "message(" not in how.explain(), name


@pytest.mark.parametrize(
    ("pattern", "values"),
    [
        ("^error: ", ["error: b", "x", 1, None, ["error: b"]]),
        ("errors?", ["error: b", "errors"]),
        ("error|x", ["x"]),
        ("(?i)ERROR", ["error: b"]),
        ("true", [True]),
        ("^Infinity", [float("inf"), float("nan")]),
        ("error{2}", ["errorr"]),
        ("not a number", [float("nan"), -float("inf")]),
        ("123", [123, 41231.0]),
        ("abc", [b"\xab\xcd"]),
    ],
)
def test_what_a_pattern_is_found_in(pattern: str, values: list[Any]) -> None:
    """A record is left alone for want of the pattern's text only where the pattern cannot be found and nothing fails."""
    for value in values:
        record = _record(b="c")
        set_value(record.attributes.add(key="a").value, value)
        assert _same("log", [f'IsMatch(attributes["a"], "{pattern}")'], ['set(body, "x")'], _records(record))


def test_many_entries_are_merged_in_one_go() -> None:
    """One after the other would take the square of their number."""
    record = _record(a="b")
    record.body.string_value = "{" + ",".join(f'"k{i}": "v"' for i in range(20_000)) + "}"
    changed = _run(['merge_maps(attributes, ParseJSON(body), "upsert")'], _records(record))
    assert len(REQUEST["logs"].FromString(changed).resource_logs[0].scope_logs[0].log_records[0].attributes) == 20_001


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('Bool(attributes["a"]) or true', True),
        ('Bool(attributes["a"]) and false', False),
        ('not (Bool(attributes["a"]) or (true and true))', False),
        ('body == "x" or false', True),
        ('body == "x" and true', True),
    ],
)
def test_what_a_constant_decides_is_not_asked(text: str, want: bool) -> None:
    payload = _records(LogRecord(body=AnyValue(string_value="x")))
    compiled = condition_of([parse_condition(text, "log")], "log")
    assert compiled is not None
    failures: list[Any] = []
    for entry in otlp.resources(payload):
        for scope in entry.scopes:
            env = Env(read("resource", entry.resource), read("scope", scope.scope))
            env.resource_entry, env.scope_entry = entry, scope
            got: list[Any] = list(compiled.bind(env, lambda *args: failures.append(args))(list(scope.records)))
            assert got == [want]
    assert failures == []
