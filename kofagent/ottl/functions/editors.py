"""Editors of values, maps and lists."""

from __future__ import annotations

from typing import Any

from kofagent.config.re2 import expand
from kofagent.ottl.access import Access
from kofagent.ottl.env import Env
from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import MISSING, editor
from kofagent.ottl.functions.format import sprintf
from kofagent.ottl.types import Duration, Own, SpanID, Time, TraceID, kind
from kofagent.transform.anyvalue import jsonable, to_json

_ZERO_TIME = -62135596800 * 10**9
"""Go's zero time in Unix nanoseconds."""


def put(target: Access, env: Env, value: Any) -> None:
    """Sets the path. EvaluationError where it cannot be set."""
    if target.put is None:
        raise EvaluationError("the path cannot be set")
    target.put(env, value)


@editor("set(target P, value A)", env=True)
def set_value(env: Env, target: Access, value: Any) -> None:
    """Sets a path to a value; nothing happens for nil."""
    if value is not None:
        put(target, env, value)


@editor("append(target P, value? E=missing, values? [E])", env=True, one_of="value values")
def append(env: Env, target: Access, value: Any, values: list[Any] | None) -> None:
    """Adds one or more values to the end of a list; another value becomes its first element."""
    old = target.get(env)
    if isinstance(old, dict):
        raise EvaluationError("append: the target is a map")
    items = list(old) if isinstance(old, list) else [] if old is None else [old]
    put(target, env, [*items, *([] if value is MISSING else [value]), *(values or ())])


@editor("clear(target P)", env=True)
def clear(env: Env, target: Access) -> None:
    """Sets a path to the zero of the kind that it has."""
    old = target.get(env)
    if old is None:
        put(target, env, None)
        return
    if isinstance(old, Time):
        put(target, env, Time(_ZERO_TIME))
    elif isinstance(old, TraceID | SpanID):
        put(target, env, type(old)(bytes(len(old.data))))
    elif isinstance(old, Own):
        put(target, env, Own(old.kind, ()))
    elif isinstance(old, Duration):
        put(target, env, Duration(0))
    else:
        put(target, env, type(old)())


@editor("delete_key(target K!, key S)", where="statements routing")
def delete_key(keys: list[str], key: str) -> tuple[str, ...]:
    """Takes a key out of a map."""
    return (key,) if key in keys else ()


@editor("delete_matching_keys(target K!, pattern R)", where="statements routing")
def delete_matching_keys(keys: list[str], pattern: Any) -> set[str]:
    """Takes out of a map the keys in which an RE2 expression is found."""
    return {key for key in keys if pattern.search(key) is not None}


@editor("keep_keys(target K!, keys [S])")
def keep_keys(keys: list[str], wanted: list[str]) -> set[str]:
    """Leaves only these keys in a map."""
    return set(keys).difference(wanted)


@editor("keep_matching_keys(target K!, pattern R)")
def keep_matching_keys(keys: list[str], pattern: Any) -> set[str]:
    """Leaves in a map only the keys in which an RE2 expression is found."""
    return {key for key in keys if pattern.search(key) is None}


@editor("delete_index(target L!, start_index I, end_index? I)")
def delete_index(target: list[Any], start: int, end: int | None) -> Any:
    """Takes elements out of a list, from one index up to another."""
    stop = start + 1 if end is None else end
    if not 0 <= start <= stop <= len(target) or (start >= len(target) and stop != len(target)) or (start == len(target) and target):
        raise EvaluationError(f"delete_index: {start} to {stop} are no places in a list of {len(target)}")
    new = [*target[:start], *target[stop:]]
    return Own(target.kind, new) if isinstance(target, Own) else new


def _depth(depth: int | None = None, **_: Any) -> None:
    if depth is not None and depth < 1:
        raise EvaluationError("the depth is at least 1")


@editor('flatten(target M!, prefix? "s", depth? #i, resolve_conflicts? #b=false)', check=_depth)
def flatten(target: dict[str, Any], prefix: str | None, depth: int | None, resolve_conflicts: bool) -> dict[str, Any]:
    """Brings nested entries of a map to its top, under names joined with dots."""
    found: dict[str, Any] = {}
    used: dict[str, int] = {}

    def add(key: str, value: Any) -> None:
        if resolve_conflicts and key in found:
            number = used.get(key, 0)
            while f"{key}.{number}" in found:
                number += 1
            used[key] = number + 1
            key = f"{key}.{number}"
        found[key] = value

    def visit(value: dict[str, Any] | list[Any], name: str, level: int, nested: bool = False) -> None:
        items = value.items() if isinstance(value, dict) else ((str(i), v) for i, v in enumerate(value))
        for key, element in items:
            # A list in a list loses a dot upstream, too: `l.00`.
            joined = f"{name}{'' if nested else '.'}{key}" if name else key
            if isinstance(element, dict | list) and (depth is None or level < depth):
                visit(element, joined, level + 1, not nested and isinstance(value, list) and isinstance(element, list))
            elif isinstance(value, list) and resolve_conflicts:
                add(name, element)
            else:
                add(joined, element)

    visit(target, prefix or "", 0)
    return found


def _limit(limit: int | None = None, priority_keys: list[str] | None = None, **_: Any) -> None:
    if limit is not None and limit < len(priority_keys or ()):
        raise EvaluationError("the limit is less than the number of priority keys")


@editor('limit(target K!, limit #i, priority_keys ["s"])', check=_limit)
def limit(keys: list[str], count: int, priority_keys: list[str]) -> set[str]:
    """Leaves at most so many entries in a map, the priority keys first."""
    if len(keys) <= count:
        return set()
    wanted = set(priority_keys).intersection(keys)
    for key in keys:
        if len(wanted) >= count:
            break
        wanted.add(key)
    return set(keys) - wanted


def _strategy(strategy: str | None = None, **_: Any) -> None:
    if strategy is not None and strategy not in ("insert", "update", "upsert"):
        raise EvaluationError(f"{strategy!r} is no strategy; known: insert, update, upsert")


@editor('merge_maps(target M!, source M, strategy "s")', check=_strategy)
def merge_maps(target: dict[str, Any], source: dict[str, Any], strategy: str) -> None:
    """Puts the entries of one map into another: those it lacks, those it has, or both."""
    for key, value in source.items():
        if strategy == "upsert" or (key in target) == (strategy == "update"):
            target[key] = value


def _through(text: str, function: Any, template: str | None, env: Env) -> str:
    """A replacement, sent through the function and the format that a statement may name."""
    if function is None:
        return text
    result = function(env, text)
    if not isinstance(result, str):
        raise EvaluationError(f"the function gave {kind(result)} where a string is needed")
    return result if template is None else _formatted(template, result)


def _formatted(template: str, value: str) -> str:
    if "%s" not in template or "%" in template.replace("%s", "").replace("%%", ""):
        raise EvaluationError("replacement_format has one %s and no other verb")
    return sprintf(template, [value])


def replaced(text: str, pattern: Any, replacement: str, function: Any, template: str | None, env: Env) -> str:
    """The text with every match replaced."""
    out: list[str] = []
    at, last = 0, -1
    for match in pattern.finditer(text):
        if match.end() == match.start() == last:
            continue  # as Go: nothing is not found twice, nor right behind a match
        last = match.end()
        out += [text[at : match.start()], _through(expand(replacement, match), function, template, env)]
        at = match.end()
    return "".join([*out, text[at:]]) if out else text


@editor("replace_pattern(target P, regex_pattern R, replacement S, function? fn, replacement_format? S)", env=True)
def replace_pattern(env: Env, target: Access, pattern: Any, replacement: str, function: Any, template: str | None) -> None:
    """Replaces what an RE2 expression finds in a text."""
    text = target.get(env)
    if isinstance(text, str) and pattern.search(text) is not None:
        put(target, env, replaced(text, pattern, replacement, function, template, env))


def _whole(text: str, pattern: Any, replacement: str, function: Any, template: str | None, env: Env) -> str | None:
    """What a text that a glob means becomes; None where it is another."""
    if pattern.fullmatch(text) is None:
        return None
    return _through(replacement, function, template, env)


@editor("replace_match(target P, pattern G, replacement S, function? fn, replacement_format? S)", env=True)
def replace_match(env: Env, target: Access, pattern: Any, replacement: str, function: Any, template: str | None) -> None:
    """Replaces a text that a glob means as a whole."""
    text = target.get(env)
    if isinstance(text, str) and (new := _whole(text, pattern, replacement, function, template, env)) is not None:
        put(target, env, new)


def _mode(mode: str | None = None, **_: Any) -> None:
    if mode is not None and mode not in ("key", "value"):
        raise EvaluationError(f"{mode!r} is no mode; known: key, value")


@editor(
    'replace_all_patterns(target M!, mode "s", regex_pattern R, replacement S, function? fn, replacement_format? S)',
    env=True,
    check=_mode,
)
def replace_all_patterns(
    env: Env, target: dict[str, Any], mode: str, pattern: Any, replacement: str, function: Any, template: str | None
) -> dict[str, Any]:
    """Replaces what an RE2 expression finds in the texts or in the keys of a map."""
    found: dict[str, Any] = {}
    for key, value in target.items():
        if mode == "value":
            if isinstance(value, str) and pattern.search(value) is not None:
                try:
                    value = replaced(value, pattern, replacement, function, template, env)
                except EvaluationError:
                    pass  # upstream leaves the value as it is
            found[key] = value
        elif pattern.search(key) is None:
            found[key] = value
        else:
            try:
                found[replaced(key, pattern, replacement, function, template, env)] = value
            except EvaluationError:
                pass  # upstream leaves the key out
    return found


@editor("replace_all_matches(target M!, pattern G, replacement S, function? fn, replacement_format? S)", env=True)
def replace_all_matches(
    env: Env, target: dict[str, Any], pattern: Any, replacement: str, function: Any, template: str | None
) -> None:
    """Replaces the texts of a map that a glob means as a whole."""
    for key, value in target.items():
        if isinstance(value, str) and (new := _whole(value, pattern, replacement, function, template, env)) is not None:
            target[key] = new


@editor("stringify_all(target M!)")
def stringify_all(target: dict[str, Any]) -> None:
    """Makes the values of a map strings."""
    for key, value in target.items():
        if value is None:
            target[key] = ""
        elif not isinstance(value, str):
            shown = jsonable(value)
            target[key] = shown if isinstance(shown, str) else to_json(value)


def _marker(limit: int | None = None, truncation_marker: str | None = None, **_: Any) -> None:
    if limit is not None and truncation_marker and len(truncation_marker.encode()) > limit:
        raise EvaluationError("the marker is longer than the limit")


@editor('truncate_all(target M!, limit #i, utf8_safe? #b=true, truncation_marker? "s")', check=_marker)
def truncate_all(target: dict[str, Any], size: int, utf8_safe: bool, truncation_marker: str | None) -> None:
    """Cuts the texts of a map to so many bytes, between characters, perhaps with a marker."""
    marker = (truncation_marker or "").encode()
    for key, value in target.items():
        if not isinstance(value, str) or len(data := value.encode("utf-8", "surrogatepass")) <= size:
            continue
        end = size - len(marker)
        if utf8_safe:
            while end > 0 and data[end] & 0xC0 == 0x80:
                end -= 1
        target[key] = (data[:end] + marker).decode("utf-8", "replace")
