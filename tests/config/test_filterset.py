"""Match lists: strict and RE2."""

from __future__ import annotations

import pytest

from kofagent.config.filterset import compile_filterset, compile_include_exclude


def test_strict_and_regexp() -> None:
    strict = compile_filterset("strict", ["a", "b.c"])
    assert strict("a") and strict("b.c") and not strict("bxc")
    found = compile_filterset("regexp", ["^a", "c$"])
    assert found("abc") and found("xc") and not found("xay") and found("abc")


def test_wrong_ones() -> None:
    with pytest.raises(ValueError, match="match_type is required"):
        compile_filterset("", ["a"])
    with pytest.raises(ValueError, match=r"\(\?=x\).*RE2"):
        compile_filterset("regexp", ["(?=x)"])


def test_no_list_is_no_question() -> None:
    assert compile_include_exclude(None, None) is None
    keep = compile_include_exclude(compile_filterset("regexp", ["^e"]), compile_filterset("strict", ["eth1"]))
    assert keep is not None and [keep(x) for x in ("eth0", "eth1", "lo")] == [True, False, False]
