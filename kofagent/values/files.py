"""Files of `--values` as trees, and configurations of `--config` over what they make."""

from __future__ import annotations

from collections.abc import Sequence

from kofagent.config.errors import ConfigErrors, Problem
from kofagent.config.merge import merge_files
from kofagent.config.source import load_file
from kofagent.config.tree import Node


def read_values(files: Sequence[str]) -> list[Node]:
    """The tree of each file, scalars as Helm reads them; `ConfigErrors` of all files."""
    trees: list[Node] = []
    problems: list[Problem] = []
    for file in files:
        try:
            trees.append(load_file(file, yaml11=True))
        except ConfigErrors as errors:
            problems += errors.errors
    if problems:
        raise ConfigErrors(problems)
    return trees


def lay_over(config: Node, over: Node) -> Node:
    """A configuration merged over what the values generate. It does not know which logins that starts, so it adds to them."""
    started, more = config.get("service", "extensions"), over.get("service", "extensions")
    out = merge_files([config, over])
    if started is not None and started.is_list and more is not None and more.is_list:
        known = started.plain()
        both = started.copy()
        both.value = [*both.value, *(item.copy() for item in more.value if item.plain() not in known)]
        out.value["service"].value["extensions"] = both
    return out
