"""Regular expressions of users, which are RE2: linear time whatever the input. The one place that compiles them, with one error.

google-re2 is quiet about wrong patterns here; `PatternError` says what is wrong, in one sentence for every option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Protocol

import re2
from pydantic import AfterValidator

from kofagent.config.compat import Re2Pattern, re2_pattern
from kofagent.wire.attributes import encode_text

OPTIONS = re2.Options()
OPTIONS.log_errors = False
_LARGE = 1000
"""Instructions of a program whose automaton may outgrow the memory that a set of patterns has."""


class Match(Protocol):
    """What google-re2 found, as a match of `re`."""

    def group(self, *groups: int | str) -> Any: ...
    def groups(self) -> tuple[str | None, ...]: ...
    def groupdict(self) -> dict[str, str | None]: ...
    def start(self, group: int | str = 0) -> int: ...
    def end(self, group: int | str = 0) -> int: ...
    def span(self, group: int | str = 0) -> tuple[int, int]: ...
    def expand(self, template: str) -> str: ...


class Re2(Protocol):
    """A pattern of google-re2, as a pattern of `re`: of str or of bytes."""

    @property
    def groups(self) -> int: ...
    @property
    def groupindex(self) -> Mapping[str, int]: ...
    @property
    def programsize(self) -> int: ...
    def search(self, text: str | bytes) -> Match | None: ...
    def match(self, text: str | bytes) -> Match | None: ...
    def fullmatch(self, text: str | bytes) -> Match | None: ...
    def finditer(self, text: str | bytes) -> Iterator[Match]: ...


class PatternError(ValueError):
    """A text is not a regular expression in RE2's syntax. The message names the pattern and RE2's reason."""

    def __init__(self, pattern: str, reason: object, flags: str = "") -> None:
        text = reason.args[0] if isinstance(reason, Exception) and reason.args else reason
        shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        shown = shown.replace(flags + pattern, pattern)  # the flags are not the user's
        super().__init__(f"{pattern!r} is not a regular expression (RE2): {shown}")


def compile_re2(pattern: str, flags: str = "") -> Re2:
    """The compiled pattern, with `flags` such as `(?s)` in front; PatternError where it is not one."""
    try:
        compiled: Re2 = re2.compile(flags + pattern, OPTIONS)
    except re2.error as error:
        raise PatternError(pattern, error, flags) from None
    return compiled


def compile_bytes(pattern: str) -> Re2Pattern:
    """The pattern as google-re2's C++ object, which searches UTF-8 bytes; PatternError where it is not one."""
    try:
        compiled = re2_pattern(pattern.encode("utf-8", "replace"), OPTIONS)
    except re2.error as error:
        raise PatternError(pattern, error) from None
    if not compiled.ok():
        raise PatternError(pattern, compiled.error())
    return compiled


def compile_search(pattern: str) -> Callable[[str], Match | None]:
    """`search` of a pattern that also takes text with undecodable bytes (surrogates), which count as U+FFFD each."""
    search = compile_re2(pattern).search

    def find(text: str) -> Match | None:
        try:
            return search(text)
        except UnicodeEncodeError:
            return search(encode_text(text).decode("utf-8", "replace"))

    return find


def compile_test(pattern: str) -> Callable[[str], bool]:
    """Whether a pattern is found anywhere in a text; PatternError where it is not one."""
    expression = compile_re2(pattern)
    if expression.programsize > _LARGE:
        return lambda text: expression.search(text) is not None
    # A set of one pattern answers without looking for the place: 1.5 us instead of 6.
    one = re2.Set.SearchSet(OPTIONS)
    one.Add(pattern)
    one.Compile()
    match = one.Match
    return lambda text: match(text) is not None


def expand(template: str, match: Any) -> str:
    """Go's Regexp.Expand: $1, ${1}, $name, ${name}; `$1x` is the group named 1x, which is empty; `$$` is a dollar."""
    out: list[str] = []
    at = 0
    while (dollar := template.find("$", at)) >= 0:
        out.append(template[at:dollar])
        at = dollar + 1
        if template.startswith("$", at):
            out.append("$")
            at += 1
            continue
        braces = template.startswith("{", at)
        end = at + braces
        while end < len(template) and (template[end].isalnum() or template[end] == "_"):
            end += 1
        name = template[at + braces : end]
        if not name or (braces and not template.startswith("}", end)):
            out.append("$")
            continue
        out.append(_group(match, name))
        at = end + braces
    return "".join([*out, template[at:]])


def _group(match: Any, name: str) -> str:
    if name.isdigit():
        number = int(name) if len(name) < 4 else 1000
        return (match.group(number) or "") if number <= match.re.groups else ""
    groups = match.groupdict()
    return groups.get(name) or ""


def _checked(pattern: str) -> str:
    compile_re2(pattern)
    return pattern


Regexp = Annotated[str, AfterValidator(_checked)]
"""An option that holds a regular expression; the text stays a text."""
