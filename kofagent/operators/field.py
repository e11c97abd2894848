"""Fields: `body`, `body.a["b.c"]`, `attributes["log.file.path"]`, `resource.x` (stanza's docs/types/field.md).

As upstream, a field begins with `body`, `attributes` or `resource`; anything else is an error with a suggestion.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kofagent.operators.entry import Entry

ROOTS: Final = ("body", "attributes", "resource")
_PART = re.compile(r"""\[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]|\.?(?P<bare>[^.\[]*)""")


class Missing:
    """The type of `MISSING`, which `Field.get` returns for a field that is not there (None is a value)."""

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()


class FieldError(ValueError):
    """The string is not a field, or the field cannot be written; the message says why."""


class Field:
    """A path into an entry. `root` is one of `ROOTS`, `keys` the way down from there (empty: the root itself)."""

    __slots__ = ("keys", "root")

    def __init__(self, root: str, keys: tuple[str, ...]) -> None:
        self.root = root
        self.keys = keys

    def __str__(self) -> str:
        return self.root + "".join([f"[{k!r}]" if "." in k else f".{k}" for k in self.keys])

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Field) and self.root == other.root and self.keys == other.keys

    def __hash__(self) -> int:
        return hash((self.root, self.keys))

    def get(self, entry: Entry) -> Any:
        """The value, or MISSING."""
        value = getattr(entry, self.root)
        for key in self.keys:
            if not isinstance(value, dict) or key not in value:
                return MISSING
            value = value[key]
        return value

    def set(self, entry: Entry, value: Any) -> None:
        """Writes the value; maps on the way are made, a dict is merged into the map that is there.

        FieldError for a value that is no map at the root of attributes or resource.
        """
        if isinstance(value, dict):
            target = self._map(entry, self.keys)
            target.update(value)
        elif self.keys:
            self._map(entry, self.keys[:-1])[self.keys[-1]] = value
        elif self.root == "body":
            entry.body = value
        else:
            raise FieldError(f"cannot set {self.root} as a whole to a value that is not a map")

    def delete(self, entry: Entry) -> Any:
        """Removes and returns the value, or MISSING."""
        if not self.keys:
            old = getattr(entry, self.root)
            setattr(entry, self.root, None if self.root == "body" else {})
            return old
        parent = Field(self.root, self.keys[:-1]).get(entry)
        if not isinstance(parent, dict):
            return MISSING
        return parent.pop(self.keys[-1], MISSING)

    def _map(self, entry: Entry, keys: tuple[str, ...]) -> dict[str, Any]:
        current = getattr(entry, self.root)
        if not isinstance(current, dict):
            current = {}
            setattr(entry, self.root, current)
        for key in keys:
            below = current.get(key)
            if not isinstance(below, dict):
                below = current[key] = {}
            current = below
        return current


BODY: Final = Field("body", ())
ATTRIBUTES: Final = Field("attributes", ())


def parse_field(text: Any, *, rootable: bool = False) -> Field:
    """The field `text` names. `rootable` allows `attributes` and `resource` as a whole; FieldError otherwise."""
    if isinstance(text, Field):
        return text
    if not isinstance(text, str) or not text:
        raise FieldError(f'{text!r} is not a field; write one such as body, attributes.name or resource["k8s.pod.name"]')
    keys: list[str] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if text[at] == "[" and (match is None or match["quoted"] is None):
            raise FieldError(f'{text!r}: a name in brackets needs quotes and a closing bracket, as in attributes["a.b"]')
        if match is None:
            raise FieldError(f"{text!r} is not a field")
        if match["quoted"] is None:
            if at and text[at] != ".":
                raise FieldError(f"{text!r}: a bracket is followed by a dot or another bracket")
            if not at and text[at] == ".":
                raise FieldError(f"{text!r}: a field begins with body, attributes or resource")
            keys.append(match["bare"])
        else:
            keys.append(match["quoted"])
        at = match.end()
    if keys[0] not in ROOTS:
        raise FieldError(
            f"{text!r}: a field begins with body, attributes or resource; did you mean body.{text} or attributes.{text}?"
        )
    if len(keys) == 1 and keys[0] != "body" and not rootable:
        raise FieldError(f"{text!r} as a whole cannot be used here; name a field of it, such as {text}.name")
    return Field(keys[0], tuple(keys[1:]))
