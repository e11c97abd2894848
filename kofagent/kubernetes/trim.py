"""Objects cut down on arrival to the fields somebody reads, with repeated strings kept once.

A field is a path such as `metadata.labels`, `spec.nodeName` or `spec.containers.ports`: a step into a list means each of its
elements. A tuple of steps names keys that hold dots. What a path leads to is kept whole.
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
POOL = 4096
"""Different strings remembered for being kept once; past it the memory of them starts anew."""
POOLED_LENGTH = 128


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
        for path in self.fields:
            if path == ("*",):
                self._tree = None
                break
            at = self._tree
            for step in path[:-1]:
                below = at.setdefault(step, {})
                assert below is not None
                at = below
            at[path[-1]] = None
        self._pool: dict[str, str] = {}

    @property
    def only_metadata(self) -> bool:
        """Whether the API may be asked for the objects' metadata only."""
        return self._tree is not None and all(step == "metadata" for step in self._tree)

    def __call__(self, source: Object) -> Object:
        """A new object; `source` is not changed and may be freed."""
        if len(self._pool) > POOL:
            self._pool = {}
        trimmed: Object = self._whole(source) if self._tree is None else self._cut(source, self._tree)
        return trimmed

    def _cut(self, value: Any, tree: Tree) -> Any:
        if isinstance(value, list):
            return [self._cut(v, tree) for v in value]
        if not isinstance(value, dict):
            return value
        out = {}
        for key, below in tree.items():
            found = value.get(key)
            if found is not None:
                out[key] = self._whole(found) if below is None else self._cut(found, below)
        return out

    def _whole(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._pool.setdefault(value, value) if len(value) <= POOLED_LENGTH else value
        if isinstance(value, dict):
            pool = self._pool
            return {pool.setdefault(k, k): self._whole(v) for k, v in value.items() if k != "managedFields"}
        if isinstance(value, list):
            return [self._whole(v) for v in value]
        return value
