"""`kofagent validate`: all errors of a configuration, without running it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from kofagent.cli.sources import load_several, print_of_several
from kofagent.component import registry as components
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config
from kofagent.config.model import LoadedConfig
from kofagent.config.references import Registry
from kofagent.values import load_values
from kofagent.values.model import ROLES
from kofagent.values.render import collector_names, is_newer, is_older


def main(arguments: argparse.Namespace) -> int:
    """0 for a valid configuration, 1 with all errors on standard error."""
    if arguments.collectors and arguments.values:
        return _several(arguments)
    good, text = validate_text(
        components,
        config=arguments.config,
        values=arguments.values,
        role=arguments.role,
        collector=arguments.collector,
        part=arguments.part,
        generation=arguments.generation,
        need_secrets=not getattr(arguments, "without_secrets", False),
    )
    print(text, file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


def _several(arguments: argparse.Namespace) -> int:
    """Several collectors of one process."""
    try:
        plans, together = load_several(arguments, need_secrets=not arguments.without_secrets)
    except ConfigErrors as errors:
        print(f"{errors}\n{_count(errors)}", file=sys.stderr)
        return 1
    print_of_several(plans, together)
    print("\n".join(map(_valid, plans.values())))
    return 0


def _valid(config: LoadedConfig) -> str:
    return f"valid: {config.name or 'configuration'}: {len(config.pipelines)} pipelines ({', '.join(config.pipelines)})"


def _count(errors: ConfigErrors) -> str:
    count = len(errors.errors)
    return f"{count} {'error' if count == 1 else 'errors'}"


def validate_text(
    registry: Registry,
    *,
    config: Sequence[str] = (),
    values: Sequence[str] = (),
    role: str | None = None,
    collector: str | None = None,
    part: str | None = None,
    generation: str | None = None,
    environ: Mapping[str, str] = os.environ,
    need_secrets: bool = True,
) -> tuple[bool, str]:
    """Whether a configuration is valid, and the text to print: a line for every error and warning, and a summary.

    `config` files, or `values` files for one role or collector (for all when none is given) with `config` files merged over what
    they generate.
    """
    loaded: list[LoadedConfig] = []
    problems = ConfigErrors(())
    try:
        wanted = _wanted(values, role, collector, part, generation) if values or not config else [{}]
    except ConfigErrors as errors:
        wanted, problems = [], errors
    for each in wanted:
        try:
            if not each:
                loaded.append(load_config(config, registry, environ, need_secrets=need_secrets))
            else:
                loaded.append(
                    load_values(
                        values,
                        each.get("role"),
                        registry,
                        generation,
                        environ,
                        collector=each.get("collector"),
                        part=part,
                        need_secrets=need_secrets,
                        over=config,
                    )
                )
        except ConfigErrors as errors:
            problems = ConfigErrors([*problems.errors, *errors.errors])
    lines = list(dict.fromkeys(f"warning: {w}" for c in loaded for w in c.warnings))
    if problems.errors:
        return False, "\n".join([*lines, str(problems), _count(problems)])
    lines += map(_valid, loaded)
    return True, "\n".join(lines)


def _wanted(
    values: Sequence[str], role: str | None, collector: str | None, part: str | None, generation: str | None
) -> list[dict[str, str]]:
    """The agents to check: the one that is asked for, else all of the generation that the values are of."""
    if collector or role:
        return [{"collector": collector} if collector else {"role": role or ""}]
    newer = is_newer(values) if generation in (None, "auto") else not is_older(generation)
    if newer:
        return [{"collector": name} for name in collector_names(values, part, generation)]
    return [{"role": each} for each in ROLES]
