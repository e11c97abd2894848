"""Configuration files in the collector's format to a `LoadedConfig`, or all that is wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from kofagent.config.errors import ConfigError, ConfigErrors
from kofagent.config.expand import expand
from kofagent.config.merge import merge_collector
from kofagent.config.model import LoadedConfig
from kofagent.config.source import as_map, load_file, parse
from kofagent.config.tree import Node
from kofagent.config.validate import Registry, validate

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
    problems: list[ConfigError] = []
    for source in sources:
        try:
            trees.append(_unfold(_read(source, environ)))
        except ConfigErrors as errors:
            problems += errors.errors
    if problems:
        raise ConfigErrors(problems)
    return merge_collector(trees)


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
            problem = ConfigError(source, 0, (), "the environment variable is not set", "set it to the configuration's text")
            raise ConfigErrors([problem])
        return as_map(*parse(environ[rest], source))
    if os.path.exists(source):
        return load_file(source)
    raise ConfigErrors([ConfigError(source, 0, (), f"a configuration of the unknown kind {scheme!r}", "known: file, env, yaml")])


def _unfold(tree: Node) -> Node:
    """`a::b: 1` at the top as `a: {b: 1}`."""
    if not any("::" in key for key in tree.names()):
        return tree
    parts = []
    for key, item in tree.value.items():
        for name in reversed(key.split("::")):
            item = Node({name: item}, item.origin)
        parts.append(item)
    return merge_collector(parts)


def finish(
    root: Node, registry: Registry, environ: Mapping[str, str], *, earlier: Sequence[ConfigError] = (), need_secrets: bool = True
) -> LoadedConfig:
    """Resolves references and validates; raises `ConfigErrors` of both and of `earlier` ones that were found before.

    `need_secrets=False` makes missing Secrets warnings, for checking a configuration on another machine.
    """
    expansion = expand(root, environ, need_secrets=need_secrets)
    checked = validate(expansion.node, registry)
    # A value that could not be resolved was reported; what validation makes of its absence adds nothing.
    unresolved = {e.path for e in expansion.errors}
    known = {(e.file, e.line, e.message) for e in earlier}
    errors = [
        *earlier,
        *expansion.errors,
        *(e for e in checked.errors if e.path not in unresolved and (e.file, e.line, e.message) not in known),
    ]
    if errors:
        raise ConfigErrors(errors)
    seen: dict[str, ConfigError] = {}
    for warning in (*expansion.warnings, *checked.warnings):
        seen.setdefault(str(warning), warning)
    return LoadedConfig(checked.components, checked.service, root, list(seen.values()))
