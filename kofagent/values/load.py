"""Values files to a configuration that is ready to run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kofagent.config.errors import ConfigErrors, Path, Problem
from kofagent.config.expand import MissingSecret, find_secret
from kofagent.config.load import finish
from kofagent.config.model import SECTIONS, LoadedConfig, as_written
from kofagent.config.references import Registry, extension_names
from kofagent.config.tree import Node
from kofagent.values.environment import resolve_environment
from kofagent.values.generated import CREDENTIALS
from kofagent.values.model import CONFIG_SECTIONS
from kofagent.values.render import render_values
from kofagent.values.rendered import Rendered

LOG_TARGETS = ("/var/lib/docker/containers",)
"""Where links in /var/log lead: Docker keeps the files of containers there."""


def load_values(
    files: Sequence[str],
    role: str | None,
    registry: Registry,
    generation: str | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    collector: str | None = None,
    part: str | None = None,
    need_secrets: bool = True,
    over: Sequence[str] = (),
) -> LoadedConfig:
    """The configuration of a role, or of a collector of KOF 1.2 and later, from values files; raises `ConfigErrors` with everything
    that is wrong with it.

    `LoadedConfig.environment` holds the values' `env`, which `Service` sets before anything starts. `part` and `over` as in
    `render_values`.
    """
    rendered = render_values(files, role, collector=collector, part=part, generation=generation, over=over)
    prefix = ("collectors", rendered.role) if collector is None else ()
    added, missing = resolve_environment(rendered.env_to_run, (*prefix, "env"), environ, by_name=collector is not None)
    warnings = [*rendered.warnings, *([] if need_secrets else [replace(p, warning=True) for p in missing])]
    if collector is None:
        warnings += _drop_idle_logins(rendered, registry, environ)
    earlier = [*rendered.errors, *(missing if need_secrets else ())]
    try:
        config = finish(
            rendered.to_run,
            registry,
            {**environ, **added},
            earlier=earlier,
            absent=rendered.not_generated,
            need_secrets=need_secrets,
        )
    except ConfigErrors as errors:
        raise ConfigErrors([_placed(e, rendered, prefix) for e in errors.errors]) from None
    found = config.warnings if collector is None else list(_of_use(config, rendered, missing))
    config.warnings = [*warnings, *(_placed(w, rendered, prefix) for w in found)]
    config.deleted = rendered.deleted
    config.prefix, config.written = prefix, rendered.written
    config.name, config.mode, config.environment = rendered.name, rendered.mode, added
    config.keep_retrying = True
    _confine(config)
    return config


def _of_use(config: LoadedConfig, rendered: Rendered, missing: Sequence[Problem]) -> Iterator[Problem]:
    """The warnings that somebody can do something about.

    Every collector has all that is defined for all of them, and uses part of it: what it does not use is worth a warning where it
    was written for this collector. A Secret that was not found has a warning of its own.
    """
    used = {("extensions", id) for id in config.extensions}
    for pipeline in config.pipelines.values():
        used |= {("receivers", id) for id in pipeline.receivers} | {("processors", id) for id in pipeline.processors}
        used |= {("exporters", id) for id in pipeline.exporters} | {("connectors", id) for id in pipeline.exporters}
    of_secrets = tuple(f"the environment variable {problem.path[-1]} is not set" for problem in missing)
    said: set[str] = set()
    for warning in config.warnings:
        if warning.message in said and "is not set" in warning.message:
            continue
        said.add(warning.message)
        if warning.path[:1] and warning.path[0] in SECTIONS and warning.path[:2] not in used:
            at = _placed(warning, rendered, ()).path
            if ("collectors", rendered.role) not in itertools.pairwise(at):
                continue
        if not of_secrets or not warning.message.startswith(of_secrets):
            yield warning


def _confine(config: LoadedConfig) -> None:
    """The node's files of logs are read through links only where a container runtime keeps them, unless the user says otherwise.

    Whoever can write to a folder of logs can make links in it, and the agent may read what that user may not.
    """
    for options in config.components.get("receivers", {}).values():
        if "link_targets" in type(options).model_fields and "link_targets" not in options.model_fields_set:
            options.link_targets = list(LOG_TARGETS)  # type: ignore[attr-defined]


def _placed(problem: Problem, rendered: Rendered, prefix: Path) -> Problem:
    if problem.path[:1] and problem.path[0] in CONFIG_SECTIONS:
        return as_written(problem, rendered.to_run, prefix, rendered.written)
    return problem


def _drop_idle_logins(rendered: Rendered, registry: Registry, environ: Mapping[str, str]) -> list[Problem]:
    """Removes generated logins that nothing uses and whose Secret does not exist, as upstream leaves them out of the object.

    KOF without its own storage (CloudWatch) has no such Secret, and its configuration still lists them.
    """
    config = rendered.config
    extensions, started = config.get("extensions"), config.get("service", "extensions")
    used = {
        name
        for kind in SECTIONS
        for id in (config.get(kind) or Node({})).names()
        for _, name in extension_names(config, registry, (kind, id))
    }
    warnings = []
    for signal in CREDENTIALS:
        id = f"basicauth/{signal}"
        node = extensions.child(id) if extensions is not None else None
        if node is None or node.origin.layer != "generated" or id in used or extensions is None:
            continue
        secret = [rendered.values.get("kof", signal, key) for key in ("credentials_secret_name", "username_key", "password_key")]
        name, *keys = [str(n.value) if n is not None else "" for n in secret]
        if not any(isinstance(find_secret(name, key, environ), MissingSecret) for key in keys):
            continue
        del extensions.value[id]
        if started is not None and started.is_list:
            started.value = [item for item in started.value if item.value != id]
        warnings.append(
            Problem(
                ("extensions", id),
                f"is left out because nothing uses it and the Secret {name!r} was not found",
                "set kof.basic_auth: false if there is no such login",
                node.origin.place,
                warning=True,
            )
        )
    return warnings
