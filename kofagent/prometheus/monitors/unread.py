"""Which fields of an object's spec were not read while it was translated, so that none is ignored silently."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Seen(dict[str, Any]):
    """A dict that records which of its keys were read; dicts below it, also in lists, are `Seen` too.

    Iterating over it reads all of it. A dict from which nothing was read does not count: it is another endpoint of the monitor,
    or a block that another one takes precedence over.
    """

    def __init__(self, data: dict[str, Any], name: str = "") -> None:
        super().__init__({key: _below(value, f"{name}.{key}" if name else key) for key, value in data.items()})
        self._name = name
        self._asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        self._asked.add(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        self._asked.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        """As of a dict."""
        self._asked.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        """As of a dict."""
        self._asked.update(super().keys())
        return super().items()

    def unread(self) -> list[str]:
        """The paths of the fields that were not read, in dicts from which something was read."""
        if not self._asked:
            return []
        out = []
        for key, value in super().items():
            if key not in self._asked:
                out.append(f"{self._name}.{key}" if self._name else key)
                continue
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Seen):
                    out += one.unread()
        return out


def _below(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return Seen(value, name)
    if isinstance(value, list):
        return [_below(one, f"{name}[{i}]") for i, one in enumerate(value)]
    return value
