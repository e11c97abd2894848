"""A tree as YAML text, optionally with a comment at every key that says where it was set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from kofagent.config.errors import show_path
from kofagent.config.merge import Deleted
from kofagent.config.source import scalar
from kofagent.config.tree import Node, Origin

_COMMENT_COLUMN = 72


def to_yaml(root: Node, *, explain: bool = False, deleted: Sequence[Deleted] = (), header: Sequence[str] = ()) -> str:
    """YAML text of a map, in block style, with `header` lines as comments on top.

    `explain` adds to every key the layer (`default`, `generated`, `user`), file and line that set it, and to a list that
    replaced another the entries that were lost; keys that a null deleted follow at the end.
    Secrets are shown as they are in `root`.
    """
    writer = _Writer(explain)
    if root.value:
        writer.map(root, 0)
    else:
        writer.lines.append(("{}", ""))
    text = [f"# {line}".rstrip() for line in header]
    for line, comment in writer.lines:
        text.append(f"{line:<{_COMMENT_COLUMN}}  # {comment}" if comment else line)
    if explain and deleted:
        text += ["", "# deleted by null:"]
        for d in deleted:
            then = f"; inherited from {d.then}" if d.then is not None else ""
            text.append(f"#   {show_path(d.path)}: {d.by}; was {d.was}{then}")
    return "\n".join(text) + "\n"


class _Writer:
    """Collects lines with their comments."""

    def __init__(self, explain: bool) -> None:
        self.lines: list[tuple[str, str]] = []
        self.explain = explain

    def map(self, node: Node, indent: int, first: str = "") -> None:
        for key, item in node.value.items():
            lead = f"{first or ' ' * indent}{scalar_text(key)}:"
            first = ""
            comment = describe(item) if self.explain else ""
            if item.is_map and item.value:
                self.lines.append((lead, comment))
                self.map(item, indent + 2)
            elif item.is_list and item.value:
                self.lines.append((lead, comment))
                self.list(item, indent)
            else:
                self.lines.append((f"{lead} {_leaf(item)}", comment))

    def list(self, node: Node, indent: int) -> None:
        for item in node.value:
            lead = f"{' ' * indent}- "
            if item.is_map and item.value:
                self.map(item, indent + 2, lead)
            elif item.is_list and item.value:
                start = len(self.lines)
                self.list(item, indent + 2)
                text, comment = self.lines[start]
                self.lines[start] = (lead + text[indent + 2 :], comment)
            else:
                comment = describe(item) if self.explain and item.origin != node.origin else ""
                self.lines.append((lead + _leaf(item), comment))


def _leaf(item: Node) -> str:
    if item.is_map:
        return "{}"
    if item.is_list:
        return "[]"
    return scalar_text(item.value)


def scalar_text(value: Any) -> str:
    """A scalar as one line of YAML that reads back as the same value by YAML 1.1 and 1.2."""
    if isinstance(value, str) and ("\n" in value or not value.isprintable()):
        return str(yaml.dump(value, default_style='"', width=1 << 30, allow_unicode=True)).strip()
    text = str(yaml.safe_dump(value, width=1 << 30, allow_unicode=True, default_flow_style=True))
    text = text.removesuffix("\n").removesuffix("\n...")
    if text == value and not isinstance(scalar(text, yaml11=True), str):
        return f"'{text}'"  # a string such as 0E0, which is a number for YAML 1.2 and so for us, though not for PyYAML
    return text


def describe(item: Node) -> str:
    """Where a value was set, and what it discarded when it replaced a list or a map."""
    text, replaced = str(item.origin), item.replaced
    while replaced is not None:
        lost = ", ".join(replaced.lost)
        text += f"; replaces {_short(replaced.origin)}" + (f", lost: {lost}" if lost else ", lost nothing")
        replaced = replaced.earlier
    return " ".join(text.split())


def _short(origin: Origin) -> str:
    return f"{origin.layer} {origin.file}:{origin.line}"
