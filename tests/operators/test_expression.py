"""Expressions: expr-lang's language definition says what each gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kofagent.operators.entry import Entry
from kofagent.operators.expression import ExpressionError, compile_expression
from tests.support.examples import examples

ENTRY = Entry("GET /x 200", {"a": "b", "n": {"x": 1, "y": [1, 2.5, "z"]}, "log.file.name": "0.log", "t": True}, {"r": "s"}, 0)
ENTRY.timestamp = 5


@pytest.mark.parametrize(
    "text, want",
    [
        ('body matches "^GET" and attributes["a"] == "b"', True),
        ("body not matches '2..$'", False),
        ("body contains 'x'", True),
        ('("log_level" in attributes)', False),
        ('!("a" in attributes)', False),
        ('"a" not in attributes', False),
        ('attributes["log.file.name"] endsWith ".log"', True),
        ("attributes.n.x + 2 * 3", 7),
        ("(attributes.n.x + 2) * 3", 9),
        ("2 ** 3 ** 2", 512.0),
        ("-2 + 3", 1),
        ("7 % 4", 3),
        ("-7 % 4", -3),
        ("7 / 2", 3.5),
        ("1 == 1.0", True),
        ("1 == '1'", False),
        ("true == 1", False),
        ("attributes.n == {'x': 1, 'y': [1, 2.5, 'z']}", True),
        ("nil == attributes.zz", True),
        ("attributes.zz ?? 'd'", "d"),
        ("attributes?.q?.z", None),
        ("attributes.n.y[2]", "z"),
        ("attributes.n.y[-1]", "z"),
        ("attributes.n.y[0:2]", [1, 2.5]),
        ("body[4:]", "/x 200"),
        ("len(attributes.n.y)", 3),
        ("'x' in ['x', 'y']", True),
        ("1 in attributes.n.y", True),
        ("'q' in nil", False),
        ("attributes.zz matches 'x'", False),
        ("true ? 1 : 2", 1),
        ("false ? 1 : true ? 2 : 3", 2),
        ("any(attributes.n.y, # == 1)", True),
        ("filter([1, 2, 3], {# > 1})", [2, 3]),
        ("split('a,b,c', ',', 2)", ["a", "b,c"]),
        ("split('a,b,c', ',', 1)", ["a,b,c"]),
        ("[all([1, 2], # > 0), all([1, 2], # > 1)]", [True, False]),
        ("[none([1, 2], # > 2), none([1, 2], # > 1)]", [True, False]),
        ("[one([1, 2], # > 1), one([1, 2], # > 0)]", [True, False]),
        ("[1, 2, 3] | map(# * 2) | sum()", 12),
        ("map([{'k': 1}], .k)", [1]),
        ("count([true, false])", 1),
        ("1..3", [1, 2, 3]),
        ("reduce([1, 2, 3], #acc + #)", 6),
        ("let x = 2; x * 3", 6),
        ("not true or true", True),
        ("not (true or true)", False),
        ("true && !false || false", True),
        ("upper('a') + lower('B') + trim(' c ')", "Abc"),
        ("split('a,b', ',')", ["a", "b"]),
        ("join(['a', 'b'], '-')", "a-b"),
        ("replace('aa', 'a', 'b')", "bb"),
        ("int('42') + float('0.5')", 42.5),
        ("string(5)", "5"),
        ("type(nil)", "nil"),
        ("max(1, 3, 2)", 3),
        ("toJSON(1)", "1"),
        ("fromJSON('{\"a\": 1}').a", 1.0),
        ("keys({'a': 1})", ["a"]),
        ("first([])", None),
        ("hasPrefix('ab', 'a')", True),
        ("indexOf('abc', 'c')", 2),
        ("$ == body", True),
        ("$env['body'] == body", True),
        ("unknown", None),
        ("resource.r", "s"),
        ("timestamp", 5),
        ("'a\\tb\\u00e9\\x41'", "a\tb\u00e9A"),
        ("`\\d`", "\\d"),
        ("0x10 + 0b11 + 1_000", 1019),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("body\n == \n'x'", False),
        ("[1, 2,]", [1, 2]),
        ("{a: 1, 'b': 2}", {"a": 1, "b": 2}),
        ("'b' < 'a'", False),
    ],
)
def test_values(text: str, want: Any) -> None:
    got = compile_expression(text).evaluate(ENTRY)
    assert got == want and type(got) is type(want)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOF_TEST_NODE", "n1")
    assert compile_expression('env("KOF_TEST_NODE") + env("KOF_TEST_ABSENT")').evaluate(ENTRY) == "n1"


@pytest.mark.parametrize(
    "text",
    [
        "attributes.zz.y",
        "body.x",
        "1 + 'a'",
        "'a' < 1",
        "true and 1",
        "not 'x'",
        "len(1)",
        "attributes.n.y[9]",
        "1 in 'x'",
        "5 matches 'x'",
        "int('x')",
        "any(1, true)",
        "1 % 0",
        "fromJSON('{')",
    ],
)
def test_errors_of_evaluation(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(text).evaluate(ENTRY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 +",
        "(1",
        "foo(1)",
        "len()",
        "'open",
        "body matches '('",
        "1 2",
        "a.",
        "[1",
        "@",
        "a ? b",
        "body.upper()",
        "(" * 500,
        "'\\q'",
        "let x = 1",
    ],
)
def test_errors_of_syntax(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert "column" in str(caught.value)


def test_a_condition_has_to_be_a_boolean() -> None:
    with pytest.raises(ExpressionError, match="a string where a boolean is needed"):
        compile_expression("body").test(ENTRY)


pieces = st.sampled_from(
    [
        "body",
        "attributes",
        ".a",
        '["a"]',
        "1",
        "'x'",
        "+",
        "==",
        "in",
        "matches",
        "(",
        ")",
        "!",
        "not",
        "and",
        "?",
        ":",
        "[",
        "]",
        "nil",
        "any",
        "#",
        "{",
        "}",
        ",",
        "??",
        "|",
        "len",
        "2.5",
        "..",
        "-",
        "let",
        "=",
        ";",
    ]
)


@given(st.lists(pieces, max_size=10).map(" ".join))
@settings(max_examples=examples(500), deadline=None)
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    try:
        compile_expression(text).evaluate(ENTRY)
    except ExpressionError:
        pass


@pytest.mark.parametrize(
    "text",
    [
        "+".join(["1"] * 5000),
        "a" + ".b" * 5000,
        "let a = 1;" * 5000 + "a",
        "-" * 5000 + "1",
        "not " * 5000 + "true",
        "[" * 5000,
        "1 ? " * 5000,
    ],
)
def test_an_expression_that_is_nested_too_deeply_is_an_error(text: str) -> None:
    with pytest.raises(ExpressionError, match="nested too deeply"):
        compile_expression(text)


@pytest.mark.parametrize(
    "text, message",
    [
        ("'open", "a string is not closed at column 1"),
        ("1 +", "unexpected end at column 4"),
        ("(1", "expected ')', found end at column 3"),
        ("a.(", "expected a name, found '(' at column 3"),
        ("body @ 1", "unexpected '@' at column 6"),
        ("'a\\q'", "unknown escape \\q; write \\\\ for a backslash at column 1"),
        ("'\\U00110000'", "invalid escape sequence at column 1"),
        ("len(1, 2)", "len takes 1 argument, not 2, at column 10"),
        ("trim()", "trim takes 1 to 2 arguments, not 0, at column 7"),
        ("foo(1)", "the function 'foo' is unknown at column 7"),
    ],
)
def test_an_error_of_syntax_says_what_and_where(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert str(caught.value) == f"expression {text!r}: {message}"
