"""Layers: the collector's rules, Helm's rules, and what is remembered."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kofagent.config.merge import merge_files, merge_helm
from kofagent.config.source import parse
from kofagent.config.tree import Node, Origin, node_of


def tree(text: str, file: str = "f", layer: str = "user") -> Node:
    node, problems = parse(text, file, layer=layer)
    assert not problems
    return node


def test_collector_files_merge_maps_and_replace_the_rest() -> None:
    one = tree("a: {b: 1, c: [1, 2]}\nd: {x: 1}\n", "one")
    two = tree("a: {c: [3], e: 5}\nd: null\n", "two")
    merged = merge_files([one, two])
    assert merged.plain() == {"a": {"b": 1, "c": [3], "e": 5}, "d": None}
    assert merged.get("a", "b").origin.file == "one"
    assert merged.get("a", "c", 0).origin.file == "two"
    assert one.plain() == {"a": {"b": 1, "c": [1, 2]}, "d": {"x": 1}}


def test_helm_null_deletes_only_what_is_there() -> None:
    merged = merge_helm(tree("a: {b: 1, c: 2}\nd: [1]\n", "chart", "default"), tree("a: {b: null, new: null}\nd: null\n"))
    assert merged.node.plain() == {"a": {"c": 2, "new": None}}
    assert [(d.path, d.by.line, d.was.layer) for d in merged.deleted] == [(("a", "b"), 1, "default"), (("d",), 2, "default")]


def test_a_replacing_list_remembers_what_was_lost() -> None:
    base = tree("jobs:\n- job_name: one\n- job_name: two\nends: [a, b]\n", "chart", "default")
    merged = merge_helm(base, tree("jobs:\n- job_name: two\nends: [b, c]\n", "mine")).node
    assert merged.get("jobs").replaced.lost == ("one",)
    assert merged.get("ends").replaced.lost == ("a",)
    assert merged.get("ends").replaced.origin.file == "chart"
    assert merged.get("ends").origin.file == "mine"


_values = st.recursive(
    st.none() | st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_maps = st.dictionaries(st.sampled_from("abc"), _values, max_size=3)


def plain_helm(base: dict[str, Any], over: dict[str, Any], top: bool = True) -> dict[str, Any]:
    out = dict(base)
    for key, value in over.items():
        if value is None and key in out and (top or out[key] is not None):
            del out[key]
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = plain_helm(out[key], value, False)
        else:
            out[key] = value
    return out


@given(_maps, _maps)
def test_helm_merge_agrees_with_the_plain_one(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge_helm(node_of(base, Origin("b")), node_of(over, Origin("o")))
    assert merged.node.plain() == plain_helm(base, over)
