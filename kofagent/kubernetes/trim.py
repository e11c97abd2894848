"""Objects reduced on arrival to the fields that are read.

A field is a path such as `metadata.labels`, `spec.nodeName` or `spec.containers.ports`: a step into a list means each of its
elements. A tuple of steps names keys that hold dots. What a path leads to is kept whole; managedFields never are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

Field: TypeAlias = "str | tuple[str, ...]"
Object: TypeAlias = dict[str, Any]
Tree: TypeAlias = "dict[str, Tree | None]"

ALL: tuple[Field, ...] = ("*",)
"""Every field."""
ALWAYS: tuple[Field, ...] = ("metadata.name", "metadata.namespace", "metadata.uid")


def steps(field: Field) -> tuple[str, ...]:
    """The steps of a path."""
    return tuple(field.split(".")) if isinstance(field, str) else field


def union(*fields: Iterable[Field]) -> frozenset[tuple[str, ...]]:
    """All paths as steps; paths below another one are left out."""
    found = {steps(f) for some in fields for f in some}
    if ("*",) in found:
        return frozenset({("*",)})
    return frozenset(p for p in found if not any(p[:n] in found for n in range(1, len(p))))


def covers(have: frozenset[tuple[str, ...]], wanted: frozenset[tuple[str, ...]]) -> bool:
    """Whether objects trimmed to `have` hold everything of `wanted`."""
    return ("*",) in have or all(any(p[:n] in have for n in range(1, len(p) + 1)) for p in wanted)


class Trimmer:
    """Cuts objects down to `fields` (and name, namespace and uid)."""

    def __init__(self, fields: Iterable[Field]) -> None:
        self.fields = union(ALWAYS, fields)
        self._tree: Tree | None = {}
        for path in sorted(self.fields):  # one order for every set of fields, so that equal objects are equal bytes
            if path == ("*",):
                self._tree = None
                break
            at = self._tree
            for step in path[:-1]:
                below = at.setdefault(step, {})
                assert below is not None
                at = below
            at[path[-1]] = None

    @property
    def only_metadata(self) -> bool:
        """Whether the API may be asked for the objects' metadata only."""
        return self._tree is not None and all(step == "metadata" for step in self._tree)

    def __call__(self, source: Object) -> Object:
        """A new object that may share parts with `source`, which is not changed."""
        if self._tree is not None:
            trimmed: Object = _cut(source, self._tree)
        else:
            trimmed = dict(source)
        metadata = trimmed.get("metadata")
        if isinstance(metadata, dict) and "managedFields" in metadata:
            trimmed["metadata"] = {k: v for k, v in metadata.items() if k != "managedFields"}
        return trimmed


def _cut(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_cut(v, tree) for v in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, below in tree.items():
        found = value.get(key)
        if found is not None:
            out[key] = found if below is None else _cut(found, below)
    return out
