"""Lists and maps."""

from __future__ import annotations

from typing import Any

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter
from kofagent.ottl.types import Strings, equal, html_safe, is_number, kind, string_like
from kofagent.transform.anyvalue import to_json


@converter("ContainsValue(target L, item A)")
def contains_value(target: list[Any], item: Any) -> bool:
    """Whether an element of the list equals the value."""
    return any(equal(value, item) for value in target)


def _some(values: list[Any] | None = None) -> None:
    if values == []:
        raise EvaluationError("the list is empty")


@converter("Coalesce(values [A])", check=_some)
def coalesce(values: list[Any]) -> Any:
    """The first value that is not nil."""
    return next((value for value in values if value is not None), None)


@converter("Keys(target M)")
def keys(target: dict[str, Any]) -> list[Any]:
    """The keys of a map, in its order."""
    return list(target)


@converter("Values(target M)")
def values(target: dict[str, Any]) -> list[Any]:
    """The values of a map, in its order."""
    return list(target.values())


@converter('SliceToMap(target L, key_path? ["s"], value_path? ["s"])')
def slice_to_map(target: list[Any], key_path: list[str] | None, value_path: list[str] | None) -> dict[str, Any]:
    """A list as a map: by what stands at a path of each element, or by number."""
    found: dict[str, Any] = {}
    for number, element in enumerate(target):
        if (key_path or value_path) and not isinstance(element, dict):
            raise EvaluationError(f"SliceToMap: an element is {kind(element)}, no map")
        key = str(number)
        if key_path:
            key = _at(element, key_path)
            if not isinstance(key, str):
                raise EvaluationError(f"SliceToMap: a key is {kind(key)}, no string")
        found[key] = _at(element, value_path) if value_path else element
    return found


def _at(element: Any, path: list[str]) -> Any:
    for step in path:
        if not isinstance(element, dict) or step not in element:
            raise EvaluationError(f"SliceToMap: an element has no {'.'.join(path)}")
        element = element[step]
    return element


def _order(order: str | None = None, **_: Any) -> None:
    if order not in (None, "asc", "desc"):
        raise EvaluationError(f"the order is asc or desc, not {order!r}")


@converter('Sort(target A, order? "s"="asc")', check=_order)
def sort(target: Any, order: str) -> Any:
    """The list in order: numbers by value, anything else by its text."""
    if not isinstance(target, list):
        raise EvaluationError(f"Sort needs a list, not {kind(target)}")
    if any(isinstance(value, dict | list) for value in target):
        return target
    reverse = order == "desc"
    if isinstance(target, Strings) or not all(is_number(value) for value in target):
        found = sorted(target, key=lambda value: (string_like(value) or "").encode("utf-8", "surrogatepass"), reverse=reverse)
        return Strings(found) if isinstance(target, Strings) else found
    return sorted(target, key=float, reverse=reverse)


def _delimiters(delimiter: str | None = None, pair_delimiter: str | None = None, **_: Any) -> None:
    if delimiter == "" or pair_delimiter == "":
        raise EvaluationError("a delimiter is empty")
    if (delimiter or "=") == (" " if pair_delimiter is None else pair_delimiter):
        raise EvaluationError("the delimiters are equal")


@converter('ToKeyValueString(target M, delimiter? "s"="=", pair_delimiter? "s"= , sort_output? #b=false)', check=_delimiters)
def to_key_value_string(target: dict[str, Any], delimiter: str, pair_delimiter: str | None, sort_output: bool) -> str:
    """The map as `key=value` pairs, quoted where a delimiter is inside."""
    pair = " " if pair_delimiter is None else pair_delimiter
    items = sorted(target.items()) if sort_output else target.items()
    return pair.join(f"{_quoted(k, delimiter, pair)}{delimiter}{_quoted(_shown(v), delimiter, pair)}" for k, v in items)


def _shown(value: Any) -> str:
    return html_safe(to_json(value)) if isinstance(value, dict | list) else string_like(value) or ""


def _quoted(text: str, delimiter: str, pair: str) -> str:
    text = text.replace('"', '\\"')
    return f'"{text}"' if delimiter in text or pair in text else text
