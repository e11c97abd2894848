"""Merging one tree over another, by the collector's rules and by Helm's. Neither input is changed; origins are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kofagent.config.errors import Path
from kofagent.config.tree import Node, Origin, Replaced


@dataclass
class Deleted:
    """A key that a `null` deleted: the path, the place of the null, and where the deleted value came from.

    `then` is where the key is inherited from instead, if it is.
    """

    path: Path
    by: Origin
    was: Origin
    then: Origin | None = None


@dataclass
class Merged:
    """The result of a merge and what it deleted."""

    node: Node
    deleted: list[Deleted] = field(default_factory=list)


def merge_files(trees: Sequence[Node]) -> Node:
    """Several `--config` or several `--values`: maps merge, everything else (lists, scalars, null) replaces; later wins."""
    return _merge(trees, nulls_delete=False).node


def merge_helm(base: Node, over: Node) -> Merged:
    """Values over defaults as Helm does: maps merge, lists and scalars replace, a null deletes what is below it.

    A null that deletes nothing stays: in a configuration it is a component with its defaults. Below the top, a null over a null is
    such a one (Helm 3.22; at the top it deletes that one, too).
    """
    return _merge([base, over], nulls_delete=True)


def _merge(trees: Sequence[Node], *, nulls_delete: bool) -> Merged:
    out = Merged(trees[0].copy() if trees else Node({}))
    for tree in trees[1:]:
        _lay(out.node, tree, (), nulls_delete, out.deleted)
    return out


def _lay(base: Node, over: Node, path: Path, nulls_delete: bool, deleted: list[Deleted]) -> None:
    for key, item in over.value.items():
        old = base.value.get(key)
        at = (*path, key)
        if old is None or (path and nulls_delete and old.value is None and item.value is None):
            base.value[key] = item.copy()
        elif item.value is None and nulls_delete:
            deleted.append(Deleted(at, item.origin, old.origin))
            del base.value[key]
        elif item.is_map and old.is_map:
            _lay(old, item, at, nulls_delete, deleted)
        else:
            base.value[key] = replacing(old, item)


def replacing(old: Node, new: Node) -> Node:
    """A copy of `new` that remembers what it discards of the list or map `old`, which it is laid over."""
    out = new.copy()
    if old.is_list or old.is_map:
        out.replaced = Replaced(old.origin, lost_entries(old, new), new.replaced)
    return out


def lost_entries(old: Node, new: Node) -> tuple[str, ...]:
    """Names of the entries of the list or map `old` that `new` no longer has; what `old` had lost before is not repeated."""
    if old.is_map:
        return tuple(name for name in old.names() if name not in new.names())
    kept = [item.plain() for item in new.value] if new.is_list else []
    return tuple(entry_name(item, i) for i, item in enumerate(old.value) if item.plain() not in kept)


def entry_name(item: Node, index: int) -> str:
    """What to call an entry of a list: itself if it is a scalar, else what names it (`job_name`, `id`, `type`, ...), else `#3`."""
    if item.is_map:
        for key in ("job_name", "name", "id", "key", "type", "target_label"):
            found = item.get(key)
            if found is not None and isinstance(found.value, str):
                return found.value
        return f"#{index + 1}"
    return f"#{index + 1}" if item.is_list else str(item.value)
