"""Values of an older KOF as those of a newer one, with a comment for everything that has no equivalent or comes out differently.

What a user wrote is carried over to where the newer generation reads it. Both configurations are then made and compared, so the
comments say all in which they differ, the defaults of the two generations included.
"""

from __future__ import annotations

from collections.abc import Sequence

from kofagent.config.emit import to_yaml
from kofagent.config.errors import ConfigErrors, Place, Problem, suggest
from kofagent.config.merge import merge_files
from kofagent.config.source import parse
from kofagent.config.tree import Node, Origin, node_of
from kofagent.values.compare import differences
from kofagent.values.files import read_values
from kofagent.values.kof_1 import render_collector
from kofagent.values.model import ROLES
from kofagent.values.places import newer_keys
from kofagent.values.render import DEFAULT_GENERATION, render_values
from kofagent.values.rendered import Rendered
from kofagent.values.to_kof_1 import SUCCESSORS, to_kof_1
from kofagent.values.versions import NEWEST, find_version

_SUFFIXES = (
    "kofagent keeps names of scraped counters as their pages have them; collectors of upstream append _total where it is missing.",
    "exporters.prometheusremotewrite.scraped_metric_suffixes: true, an option of kofagent's own, does the same.",
)


def migrate(files: Sequence[str], to: str, generation: str | None = None) -> str:
    """YAML text of values for the version `to`. Raises `ConfigErrors` if the values are wrong, or not older than that."""
    trees = read_values(files)
    if any(newer_keys(tree) for tree in trees):
        what = "the values are of KOF 1.2 or later already"
        hint = "kofagent render --generation VERSION shows what they are in another version"
        raise ConfigErrors([Problem((), what, hint, Place(files[0]))])
    source = generation or ("0.1.1" if to == "0.3.0" else DEFAULT_GENERATION)
    version = None if to == "0.3.0" else find_version({"1.x": NEWEST}.get(to, to))
    if to != "0.3.0" and version is None:
        raise ConfigErrors([Problem((), f"unknown version {to!r}", suggest(to, ("0.3.0", "1.x", NEWEST)), Place("--to"))])
    if source not in ("0.1.1", DEFAULT_GENERATION) or (version is None and source != "0.1.1"):
        hint = "values of 0.1.1 become those of 0.3.0 or 1.x, values of 0.3.0 those of 1.x"
        raise ConfigErrors([Problem((), f"values of {source} do not become those of {to}", hint, Place("--generation"))])
    user = merge_files(trees) if trees else Node({})
    before = {role: render_values(files, role, generation=source) for role in ROLES}
    errors = {str(error): error for each in before.values() for error in each.errors}
    if errors:
        raise ConfigErrors(errors.values())
    notes: list[str] = []
    values = user.plain()
    if version is not None:
        values, notes = to_kof_1(user, before, version)
    text = to_yaml(node_of(values, Origin()))
    header = [f"Values of KOF {version or to}, from those of {source} by kofagent migrate.", *notes]
    if version is not None:
        header += ["", *_SUFFIXES]
    header += _compared(before, _after(text, version), source, version or to)
    return "\n".join(f"# {line}".rstrip() for line in header) + "\n" + text


def _after(text: str, version: str | None) -> dict[str, Node]:
    """The configurations that the new values make, by role or collector."""
    tree, _ = parse(text, "migrated", yaml11=True)
    if version is None:
        return {role: render_values([], role, generation="0.3.0", trees=[tree]).to_run for role in ROLES}
    return {key: render_collector([tree], key, version=version).to_run for key in SUCCESSORS.values()}


def _compared(before: dict[str, Rendered], after: dict[str, Node], source: str, to: str) -> list[str]:
    """What is different for each role."""
    out: list[str] = []
    for role, rendered in before.items():
        key = role if role in after else SUCCESSORS[role]
        found = differences(rendered.to_run.plain(), after[key].plain())
        out += [
            "",
            f"{role} of {source} and {key} of {to} differ in:" if found else f"{role} of {source} and {key} of {to} are equal.",
        ]
        out += [f"  {line}" for line in found]
    return out
