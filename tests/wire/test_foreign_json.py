"""JSON of others: no value of it, and no text that is none, surprises who reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.wire.foreign_json import read_json

PRODUCT = Path(__file__).parents[2] / "kofagent"
OWN_WAY = {
    "component/stored.py",  # what this agent wrote
    "receivers/filelog/checkpoint.py",
    "kubernetes/changes.py",
    "exporters/awscloudwatchlogs/events.py",  # data, with rules of their own
    "operators/expression/functions.py",
    "ottl/functions/parsing.py",
    "wire/foreign_json.py",
}

texts = st.text(st.characters(exclude_categories=()))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(values, st.booleans())
def test_every_string_of_it_can_be_written_and_whole_ones_are_unchanged(value: Any, escaped: bool) -> None:
    raw = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    try:
        read = read_json(raw)
    except ValueError:  # half a character that is no escape is not UTF-8
        assert not escaped
        return
    json.dumps(read, ensure_ascii=False).encode()
    plain = json.loads(raw)
    try:
        json.dumps(plain, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert read == plain


def test_halves_are_replaced_and_pairs_are_characters() -> None:
    assert read_json(rb'{"\udc00": ["a\uD800b", "\ud83d\ude00"]}') == {"\ufffd": ["a\ufffdb", "\U0001f600"]}
    assert read_json('"\ud800"'.encode("utf-8", "replace")) == "?"


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b'["\\ud800",' * 100_000, b"", b"\xff", b"[1", b"9" * 10_000])
def test_what_is_none_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)


def test_the_error_is_in_words_of_ours() -> None:
    with pytest.raises(ValueError, match="a number has too many digits"):
        read_json(b'{"a": ' + b"9" * 5000 + b"}")
    with pytest.raises(ValueError, match="not valid UTF-8"):
        read_json(b'"\xff"')


def test_whoever_reads_json_of_others_reads_it_so() -> None:
    found = {
        str(path.relative_to(PRODUCT)) for path in PRODUCT.rglob("*.py") if re.search(r"\bjson\.loads?\(", path.read_text("utf-8"))
    }
    assert found == OWN_WAY, "use wire.foreign_json.read_json, or add what reads its own files or data here"
