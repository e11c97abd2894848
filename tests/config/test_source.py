"""YAML with file:line: what is read, and what is said about what cannot be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kofagent.config import source
from kofagent.config.emit import to_yaml
from kofagent.config.errors import ConfigErrors
from kofagent.config.source import load_file, parse, scalar
from kofagent.config.tree import Origin, node_of
from tests.support.trees import trees


def test_every_value_knows_its_line() -> None:
    node, problems = parse("a:\n  b: 1\n  c:\n    - x\n    - y: 2\n", "f.yaml")
    assert not problems
    lines = {path: each.origin.line for path, each in node.walk()}
    assert lines == {(): 1, ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", 0): 4, ("a", "c", 1): 5, ("a", "c", 1, "y"): 5}
    assert node.plain() == {"a": {"b": 1, "c": ["x", {"y": 2}]}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("+7", 7),
        ("0644", 0o644),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:00", "12:30:00"),
        ("1.2.3", "1.2.3"),
        ("0.0.0.0:4317", "0.0.0.0:4317"),
        ("10s", "10s"),
        ("-", "-"),
        ("09", 9),  # not octal, so a decimal number
        ("0", 0),
        ("-.inf", -math.inf),
        ("=", "="),
        ("a\nb", "a\nb"),
        ("9" * 300, int("9" * 300)),
        ("9" * 5000, "9" * 5000),  # Python refuses to make this a number
        ("0x" + "f" * 5000, "0x" + "f" * 5000),
    ],
)
def test_scalars_as_the_collector_reads_them(text: str, value: object) -> None:
    found = scalar(text)
    assert found == value and type(found) is type(value)


def test_values_files_know_yes_and_no() -> None:
    node, _ = parse("a: yes\nb: 'yes'\nc: off\n", "v.yaml", yaml11=True)
    assert node.plain() == {"a": True, "b": "yes", "c": False}


def test_duplicate_keys_are_all_reported() -> None:
    _, problems = parse("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "f.yaml")
    assert [str(p) for p in problems] == [
        "f.yaml:4: b.c: duplicate key, first defined on line 3; keep one of them",
        "f.yaml:5: a: duplicate key, first defined on line 1; keep one of them",
    ]


def test_anchors_and_merge_keys() -> None:
    node, problems = parse("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nlist: [*b, *b]\n", "f.yaml")
    assert not problems
    assert node.plain()["use"] == {"x": 1, "y": 3}
    assert node.plain()["list"] == [{"x": 1, "y": 2}] * 2


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x: y\na: [1,\nb: 2\nc: 3\n", 2, "the '[' that begins here does not end; noticed on line 4"),
        ("x: y\na: {b: [1, 2], c: {d: 1}\ne: 2\n", 2, "the '{' that begins here does not end; noticed on line 3"),
        ("a: 'b\n  c\n", 1, "the quoted string that begins here does not end"),
        ("a: [1, 2}\n", 1, "did not find expected ',' or ']'"),
        ("a: 1\n b: 2\n", 2, "not valid YAML"),
        ("a:\n\t- 1\n", 2, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "more than one document"),
        ("a: !mine x\n", 1, "the tag '!mine' is unknown"),
        ("a: &a [*a]\n", 1, "contains itself"),
        ("{a: 1}: 2\n", 1, "a key must be a string"),
    ],
)
def test_broken_text_is_one_error_with_its_line(text: str, line: int, said: str) -> None:
    _, problems = parse(text, "f.yaml")
    assert len(problems) == 1
    assert problems[0].place.line == line
    assert said in problems[0].message


def test_a_tag_of_python_makes_no_object() -> None:
    node, problems = parse("a: !!python/object:os.system x\n", "f.yaml")
    assert node.plain() == {"a": "x"} and not problems


def test_aliases_cannot_grow_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert source.MAX_NODES == 500_000
    monkeypatch.setattr(source, "MAX_NODES", 5000)
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for i in range(1, 9):
        text += f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n"
    _, problems = parse(text, "bomb.yaml")
    assert [p.message for p in problems] == ["has more than 5000 values once its aliases are expanded"]


def test_deep_nesting_is_an_error() -> None:
    _, problems = parse("[" * 100_000, "deep.yaml")
    assert len(problems) == 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(ConfigErrors, match="No such file or directory; check the path"):
        load_file(str(missing))
    with pytest.raises(ConfigErrors, match="Is a directory; name a file in it"):
        load_file(str(tmp_path))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: \xe4\n")
    with pytest.raises(ConfigErrors, match=r"latin.yaml:2: .*not UTF-8"):
        load_file(str(latin))
    listed = tmp_path / "list.yaml"
    listed.write_text("- a\n")
    with pytest.raises(ConfigErrors, match=r"list.yaml:1: configuration: must be a map"):
        load_file(str(listed))
    listed.write_text("")
    assert load_file(str(listed)).plain() == {}


_letters = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])
_keys = st.text(_letters, min_size=1, max_size=8).filter(lambda k: k != "<<")
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
)
_values = trees(_scalars, _keys, most=12)
_data = st.dictionaries(_keys, _values, max_size=4)


@example({"0E0": ["0E0", "1_0", "08", "on", "0x1F"]})
@given(_data)
def test_what_is_written_reads_back(data: dict[str, object]) -> None:
    text = to_yaml(node_of(data, Origin("x", 1)), explain=False)
    assume("***" not in text)
    assert yaml.safe_load(text) == data
    node, problems = parse(text, "back.yaml")
    assert not problems and node.plain() == data
