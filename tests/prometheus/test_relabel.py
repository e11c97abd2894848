from __future__ import annotations

import linecache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kofagent.prometheus.relabel import RelabelConfig, compile_rules
from tests.reference import relabel as plain
from tests.support.examples import examples

NAMES = ["a", "b", "job", "__name__", "__meta_x", "__param_t", "instance"]
VALUES = ["", "x", "Ab", "x;y", "10.0.0.1:9100", "a\nb", "\u00e9", "$1", "5"]
REGEXES = ["(.*)", "(.+)", "", "x|Ab", "([a-z]+)(?P<rest>.*)", ".*:(\\d+)", "(?:a|b)(.)?", "__meta_(.+)", "a.b"]
TEMPLATES = ["$1", "${1}", "$$1", "$${1}", "x-$1", "${rest}", "$rest", "", "const", "$9", "$1x", "${1}x", "$", "$$", "a$-b", "$0"]


def rule(**options: Any) -> RelabelConfig:
    return RelabelConfig.model_validate(options)


names = st.sampled_from(NAMES)
regexes = st.sampled_from(REGEXES)
sources = st.lists(names, max_size=3)
rules = st.one_of(
    st.builds(
        rule,
        action=st.just("replace"),
        source_labels=sources,
        regex=regexes,
        separator=st.sampled_from([";", "", "-"]),
        target_label=st.sampled_from([*NAMES, "t_$1", "${1}", "$rest"]),
        replacement=st.sampled_from(TEMPLATES),
    ),
    st.builds(rule, action=st.sampled_from(["keep", "drop"]), source_labels=sources, regex=regexes),
    st.builds(
        rule,
        action=st.sampled_from(["lowercase", "uppercase", "keepequal", "dropequal"]),
        source_labels=sources,
        target_label=names,
    ),
    st.builds(rule, action=st.just("hashmod"), source_labels=sources, target_label=names, modulus=st.sampled_from([1, 8, 1 << 63])),
    st.builds(rule, action=st.just("labelmap"), regex=regexes, replacement=st.sampled_from(["$1", "m_$1", "${rest}", "c"])),
    st.builds(rule, action=st.sampled_from(["labeldrop", "labelkeep"]), regex=regexes),
)
labels = st.dictionaries(names, st.sampled_from([v for v in VALUES if v]))


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(rules, max_size=4), labels)
def test_compiled_equals_plain(given_rules: list[RelabelConfig], start: dict[str, str]) -> None:
    compiled, reference = dict(start), dict(start)
    kept = compile_rules(given_rules, "test")(compiled)
    assert kept is plain.relabel(given_rules, reference)
    if kept:
        assert compiled == reference


@pytest.mark.parametrize(
    "replacement", ["/api/v1/nodes/$1/proxy", "/api/v1/nodes/${1}/proxy", "/api/v1/nodes/$$1/proxy", "/api/v1/nodes/$${1}/proxy"]
)
def test_the_four_spellings_of_a_group(replacement: str) -> None:
    found = {"node": "n1"}
    assert compile_rules([rule(source_labels=["node"], regex="(.+)", target_label="path", replacement=replacement)], "t")(found)
    assert found["path"] == "/api/v1/nodes/n1/proxy"


def test_what_the_documentation_of_prometheus_says() -> None:
    # Values worked out by Prometheus' own relabel_test.go.
    cases: list[tuple[dict[str, Any], dict[str, str], dict[str, str] | None]] = [
        (
            {"source_labels": ["a"], "regex": "f(.*)", "target_label": "d", "separator": ";", "replacement": "ch${1}-ch${1}"},
            {"a": "foo", "b": "bar"},
            {"a": "foo", "b": "bar", "d": "choo-choo"},
        ),
        (
            {"source_labels": ["a", "b"], "regex": "f(.*);(.*)r", "target_label": "a", "replacement": "b${1}${2}m"},
            {"a": "foo", "b": "bar"},
            {"a": "boobam", "b": "bar"},
        ),
        (
            {"source_labels": ["c"], "target_label": "d", "action": "hashmod", "modulus": 1000},
            {"c": "baz"},
            {"c": "baz", "d": "976"},
        ),
        (
            {"source_labels": ["c"], "target_label": "d", "action": "hashmod", "modulus": 1000},
            {"c": "foo\nbar"},
            {"c": "foo\nbar", "d": "734"},
        ),
        ({"source_labels": ["a"], "regex": ".*o", "action": "DROP"}, {"a": "foo"}, None),
        (
            {"regex": "(b.*)", "replacement": "bar_${1}", "action": "labelmap"},
            {"a": "foo", "b1": "bar"},
            {"a": "foo", "b1": "bar", "bar_b1": "bar"},
        ),
        (
            {"source_labels": ["a"], "regex": "some-([^-]+)-([^,]+)", "target_label": "${3}", "replacement": "${2}"},
            {"a": "some-name-value"},
            {"a": "some-name-value"},
        ),
    ]
    for options, start, expected in cases:
        result = dict(start)
        kept = compile_rules([rule(**options)], "t")(result)
        assert (result if kept else None) == expected, options


def test_the_text_of_a_rule_is_in_linecache_without_what_a_user_wrote() -> None:
    evil = "x'); import os; ("
    rules = compile_rules([rule(source_labels=["a"], target_label="b", regex="(.+)", replacement=evil)], "job-7")
    text = "".join(linecache.getlines(rules.__code__.co_filename))
    assert "m0(get(s0_0" in text and "import os" not in text
    found = {"a": "1"}
    assert rules(found) and found["b"] == evil


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"regex": "("}, "RE2"),
        ({"action": "hashmod", "target_label": "a"}, "modulus"),
        ({"action": "replace"}, "target_label"),
        ({"action": "labeldrop", "regex": "a", "source_labels": ["b"]}, "regex only"),
        ({"action": "kepp"}, "keep"),
        ({"action": "uppercase", "target_label": "a", "replacement": "x"}, "replacement"),
        ({"source_labels": "a", "action": "keep"}, "list"),
    ],
)
def test_mistakes_are_found_when_read(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        rule(**options)
    assert says in str(error.value)


def test_yaml_scalars_become_text() -> None:
    found: dict[str, str] = {}
    assert compile_rules([rule(target_label="replica", replacement=0), rule(target_label="on", replacement=True)], "t")(found)
    assert found == {"replica": "0", "on": "true"}
