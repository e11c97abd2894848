"""Rules and templates: what they give for an endpoint, and what is said of those that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.component.observing import TYPES, Endpoint, join_target, split_target
from kofagent.config.tree import Origin, node_of
from kofagent.operators.expression import ExpressionError
from kofagent.receivers.receiver_creator.expressions import VARIABLES, compiled, unknown
from kofagent.receivers.receiver_creator.plausible import plausible
from kofagent.receivers.receiver_creator.rules import Rule
from kofagent.receivers.receiver_creator.templates import Template, compile_templates, fill, filled, templates

POD = {"name": "redis-1", "namespace": "shop", "uid": "u", "labels": {"app": "redis"}, "annotations": {"path": "/x", "port": "99"}}
ENV = Endpoint("k8s_observer/u/r(6379)", "port", "10.0.0.1:6379", {"name": "r", "port": 6379, "transport": "TCP", "pod": POD}).env()


@pytest.mark.parametrize(
    "text, value",
    [
        ("plain", "plain"),
        ("`port`", 6379),
        ('`"app" in pod.labels`', True),
        ("http://`endpoint`/metrics", "http://10.0.0.1:6379/metrics"),
        ("`port``port`", "63796379"),
        ('`pod.labels.app`-`pod.labels["app"]`', "redis-redis"),
        ("`pod.labels.none`", None),
        ("x`pod.labels.none`", "x<nil>"),
        (r"\`pod\` `host`", "`pod` 10.0.0.1"),
        (r"C:\dir\`", "C:\\dir`"),
        ('`"path" in pod.annotations ? pod.annotations["path"] : "/metrics"`', "/x"),
        ("`port == 6379 ? 1.5 : 0`", 1.5),
        ("`typeOf(port)`", "int"),
    ],
)
def test_a_template_is_filled(text: str, value: Any) -> None:
    assert Template(text).fill(ENV) == value


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("a `port", "a backtick is not closed"),
        ("`  `", "nothing between two backticks"),
        ("`port +`", "unexpected end at column 7"),
        ('`env("KOF_VM_PASSWORD")`', "there is no function 'env'"),
        ("`body`", "is a name of log records"),
        ("`$env`", "is a name of log records"),
        ("`nope(1)`", "the function 'nope' is unknown"),
    ],
)
def test_what_is_wrong_with_a_template_is_said(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(").replace("$", r"\$")):
        Template(text)


@given(
    st.recursive(st.text("ab") | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner))
)
def test_what_has_no_backticks_stays_as_it_is(value: Any) -> None:
    assert fill(compile_templates(value), ENV) == value and list(templates(value)) == []


@given(st.text("`\\ab"))
def test_any_text_is_filled_or_refused(text: str) -> None:
    try:
        Template(text).fill({**ENV, "a": 1, "b": "x", "ab": None})
    except ValueError:
        pass


def test_a_part_of_a_configuration_is_filled_for_validation_and_says_where() -> None:
    node, loose = filled(node_of({"a": ["x`port`", "`pod.labels`"], "b": "`1 + nil`", "c": 5}, Origin()), ENV)
    assert node.plain() == {"a": ["x6379", {"app": "redis"}], "b": None, "c": 5}
    assert loose == {("a", 0), ("a", 1), ("b",)}


@pytest.mark.parametrize(
    "rule, outcome",
    [
        ('type == "port" && port == 6379', True),
        ('type == "port" && pod.name matches "^redis"', True),
        ('type == "port" && pod.labels["app"] == "nginx"', False),
        ("type=='port' && pod.labels.absent == nil", True),
        ('type == "pod" && name == "r"', False),
        ('type == "port" and pod.annotations["port"] in ["98", "99"]', True),
    ],
)
def test_a_rule_is_true_or_false(rule: str, outcome: bool) -> None:
    assert Rule(rule).test(ENV) is outcome


@pytest.mark.parametrize(
    "rule, sentence",
    [
        ("", "must begin with the type"),
        ("port == 6379", "must begin with the type"),
        ('type != "port"', "must begin with the type"),
        ('type == "prot"', "no endpoints of type 'prot'; use one of pod, port"),
        ('type == "port" && (', "unexpected end"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(rule: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Rule(rule)


def test_a_rule_that_is_no_boolean_is_an_error() -> None:
    with pytest.raises(ExpressionError, match="boolean"):
        Rule('type == "port" && port').test(ENV)


@pytest.mark.parametrize("type", TYPES)
def test_endpoints_that_are_made_up_have_all_names_that_are_known(type: str) -> None:
    env = plausible(type).env()
    assert set(VARIABLES[type]) <= env.keys()
    for name in VARIABLES[type]:
        assert list(unknown(compiled(name), type)) == []


def test_names_that_no_endpoint_has_are_found() -> None:
    def names(text: str, type: str) -> list[str]:
        return [name for name, _ in unknown(compiled(text), type)]

    assert names('contaner_name == "a" && pod.nam == "b" && pod.labels.x == "c"', "pod.container") == ["contaner_name", "pod.nam"]
    assert names("any(keys(labels), {# == name})", "pod") == []
    assert names("is_ipv6", "port") == ["is_ipv6"]
    assert names('let x = name; x == "a"', "pod") == []


@pytest.mark.parametrize(
    "target, parts",
    [
        ("10.0.0.1", ("10.0.0.1", "")),
        ("10.0.0.1:80", ("10.0.0.1", "80")),
        ("[fd00::1]:80", ("fd00::1", "80")),
        ("fd00::1", ("fd00::1", "")),
        ("http://a.example/x", ("http://a.example/x", "")),
        ("", ("", "")),
    ],
)
def test_a_target_is_host_and_port(target: str, parts: tuple[str, str]) -> None:
    assert split_target(target) == parts
    if parts[1]:
        assert join_target(*parts) == target
