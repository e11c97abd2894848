"""Configuration files in the collector's format to a `LoadedConfig`, or all that is wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence

from kofagent.config.errors import ConfigErrors, Place, Problem
from kofagent.config.excerpt import in_files
from kofagent.config.expand import expand
from kofagent.config.merge import merge_files
from kofagent.config.model import LoadedConfig
from kofagent.config.references import Registry
from kofagent.config.source import as_map, load_file, parse
from kofagent.config.tree import Node
from kofagent.config.validate import validate

__all__ = ["LoadedConfig", "Registry", "finish", "load_config", "read_config"]

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)\Z", re.DOTALL)


def load_config(
    files: Sequence[str], registry: Registry, environ: Mapping[str, str] = os.environ, *, need_secrets: bool = True
) -> LoadedConfig:
    """The configuration of one or several `--config`, later ones laid over earlier ones; raises `ConfigErrors`.

    Each is a file, or as the collector takes it `file:PATH`, `env:VARIABLE` (YAML text) or `yaml:TEXT` (`a::b: 1` is `a: {b: 1}`).
    """
    return finish(read_config(files, environ), registry, environ, need_secrets=need_secrets)


def read_config(sources: Sequence[str], environ: Mapping[str, str] = os.environ) -> Node:
    """The merged tree of several sources, references unresolved; raises `ConfigErrors` of all of them."""
    trees: list[Node] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            trees.append(_unfold(_read(source, environ)))
        except ConfigErrors as errors:
            problems += errors.errors
    if problems:
        raise ConfigErrors(problems)
    return merge_files(trees)


def _read(source: str, environ: Mapping[str, str]) -> Node:
    match = _URI.match(source)
    if match is None:
        return load_file(source)
    scheme, rest = match[1], match[2]
    if scheme == "file":
        return load_file(rest)
    if scheme == "yaml":
        return as_map(*parse(rest, "yaml:"))
    if scheme == "env":
        if rest not in environ:
            hint = "set it to the text of the configuration"
            raise ConfigErrors([Problem((), "the environment variable is not set", hint, Place(source))])
        return as_map(*parse(environ[rest], source))
    if os.path.exists(source):
        return load_file(source)
    raise ConfigErrors([Problem((), f"unknown kind of configuration {scheme!r}", "use one of file, env, yaml", Place(source))])


def _unfold(tree: Node) -> Node:
    """`a::b: 1` at the top as `a: {b: 1}`."""
    if not any("::" in key for key in tree.names()):
        return tree
    parts = []
    for key, item in tree.value.items():
        for name in reversed(key.split("::")):
            item = Node({name: item}, item.origin)
        parts.append(item)
    return merge_files(parts)


def finish(
    root: Node,
    registry: Registry,
    environ: Mapping[str, str],
    *,
    earlier: Sequence[Problem] = (),
    absent: Collection[str] = (),
    need_secrets: bool = True,
) -> LoadedConfig:
    """Resolves references and validates; raises `ConfigErrors` of both and of the `earlier` errors that were found before.

    `absent` are components that are not there for a reason that `earlier` has. `need_secrets=False` makes missing Secrets
    warnings, for checking a configuration on another machine.
    """
    expansion = expand(root, environ, need_secrets=need_secrets)
    checked = validate(expansion.node, registry, absent)
    # A value that could not be resolved was reported; what validation makes of its absence adds nothing.
    unresolved = {p.path for p in expansion.errors}
    found = [*expansion.problems, *(p for p in checked.problems if p.warning or p.path not in unresolved)]
    known = {(e.place, e.message) for e in earlier}
    errors = [*earlier, *(p for p in found if not p.warning and (p.place, p.message) not in known)]
    if errors:
        raise ConfigErrors(in_files(errors))
    warnings = list({str(p): p for p in found if p.warning}.values())
    return LoadedConfig(checked.components, checked.service, root, warnings)
