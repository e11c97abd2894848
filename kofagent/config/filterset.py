"""Upstream's filterset: a list of strings that match exactly (`strict`) or as regular expressions (`regexp`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from pydantic import Field

from kofagent.config.base import ComponentConfig
from kofagent.config.re2 import compile_search
from kofagent.memory.memo import Memo


class RegexpOptions(ComponentConfig):
    """`regexp`: upstream's cache of results. Matches are always remembered here, bounded."""

    cacheenabled: bool = Field(False, description="Accepted for compatibility; results are always remembered.")
    cachemaxnumentries: int = Field(0, ge=0, description="Accepted for compatibility; the memory is bounded.")


class FilterSetBlock(ComponentConfig):
    """`match_type` of a list of patterns."""

    match_type: Literal["strict", "regexp", ""] = Field("", description="strict: equal; regexp: RE2, found anywhere.")
    regexp: RegexpOptions | None = Field(None, description="Options of match_type regexp.")


def compile_filterset(match_type: str, patterns: Iterable[str]) -> Callable[[str], bool]:
    """A function that tells whether a string matches one of the patterns; ValueError for a wrong pattern or type."""
    if match_type == "strict":
        return frozenset(patterns).__contains__
    if match_type != "regexp":
        raise ValueError("match_type is required; write strict or regexp")
    expressions = [compile_search(p) for p in dict.fromkeys(patterns)]
    known: Memo[str, bool] = Memo(
        "config.filterset", lambda text: any(search(text) for search in expressions), entries=8192, size=1 << 20
    )
    return known.__getitem__


def compile_include_exclude(
    include: Callable[[str], bool] | None, exclude: Callable[[str], bool] | None
) -> Callable[[str], bool] | None:
    """Both lists as one question, "is it wanted?"; None when there is no list."""
    if include is None and exclude is None:
        return None
    return lambda text: (include is None or include(text)) and not (exclude is not None and exclude(text))
