"""Regular expressions of users: one error for all ways to compile them, no ways around it, and the same answers from each."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.config.compat import re2_unanchored
from kofagent.config.re2 import PatternError, compile_bytes, compile_re2, compile_search, compile_test
from tests.rooms import ROOT, files, tree_of


@pytest.mark.parametrize("compile", [compile_re2, compile_bytes, compile_search, compile_test])
@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("(?P<a>", "missing ): (?P<a>"), ("(?=x)", "invalid perl operator: (?="), ("a**", "bad repetition operator: **")],
)
def test_one_sentence_for_what_is_wrong(compile: Callable[[str], object], pattern: str, reason: str) -> None:
    with pytest.raises(PatternError) as caught:
        compile(pattern)
    assert str(caught.value) == f"{pattern!r} is not a regular expression (RE2): {reason}"


def test_text_that_is_not_utf8() -> None:
    search = compile_search("a.b")
    assert search("a\udcffb") and not search("\udcffab")


def test_flags() -> None:
    with pytest.raises(PatternError, match=r"^'\(' is not a regular expression \(RE2\): missing \): \($"):
        compile_re2("(", "(?s)")
    assert compile_re2("a|b.c", "(?s)").fullmatch("b\nc") and not compile_re2("b.c").fullmatch("b\nc")


@given(st.sampled_from(["a", "^a", "a$", "(a|b)c", "", "x{3}", r"\bab\b"]), st.text("abcx ", max_size=8))
def test_all_ways_agree(pattern: str, text: str) -> None:
    want = compile_re2(pattern).search(text) is not None
    data = text.encode()
    assert compile_test(pattern)(text) is want
    assert (compile_search(pattern)(text) is not None) is want
    assert (compile_bytes(pattern).Match(re2_unanchored(), data, 0, len(data))[0][0] >= 0) is want


def test_nothing_else_in_the_product_uses_the_library() -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in files()
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Import) and any(a.name == "re2" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "re2")
    }
    assert users == {"config/re2.py", "config/compat.py"}
