"""Nested lists and maps for properties, drawn cheaply: some leaves and keys, and one string of bytes that says how they hang together.

`st.recursive` draws for every node whether it is there and of what kind, and most of what such a property takes is the drawing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

DEEPEST = 5


def grow(nodes: bytes, leaves: Sequence[Any], keys: Sequence[str]) -> Any:
    """A value: each byte is a node, the next leaf (below 128), a list or a map; what is missing is a leaf, and leaves come in turn."""
    node, leaf = iter(nodes), itertools.cycle(leaves)

    def value(depth: int) -> Any:
        kind, size = divmod(next(node, 0), 64)
        if kind < 2 or depth == DEEPEST:
            return next(leaf)
        if kind == 2:
            return [value(depth + 1) for _ in range(size % 4)]
        return {key: value(depth + 1) for key in keys[: size % 4]}

    return value(0)


def shapes(most: int = 8) -> st.SearchStrategy[bytes]:
    """What `grow` makes values of; it shrinks to a leaf."""
    return st.binary(min_size=1, max_size=most)


def trees(leaf: st.SearchStrategy[Any], key: st.SearchStrategy[str], most: int = 8) -> st.SearchStrategy[Any]:
    """Values of at most so many nodes with leaves below them."""
    several = st.lists(leaf, min_size=1, max_size=4)
    return st.builds(grow, shapes(most), several, st.lists(key, min_size=3, max_size=3))


def maps(keys: Sequence[str], leaf: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[dict[str, Any]]:
    """Maps of at most so many of the keys, with such values, some of them nested."""

    def made(chosen: bytes, leaves: list[Any], nodes: bytes) -> dict[str, Any]:
        out = {}
        for i, byte in enumerate(chosen):
            first = i % len(leaves)
            out[keys[byte % len(keys)]] = grow(nodes[3 * i : 3 * i + 5], [*leaves[first:], *leaves[:first]], keys)
        return out

    return st.builds(made, st.binary(max_size=most), st.lists(leaf, min_size=1, max_size=4), shapes(3 * most))
