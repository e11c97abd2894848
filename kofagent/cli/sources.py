"""Loads what `--values` and `--config` name; prints errors of a configuration the same way for every command.

With several names in `--collector` each has a configuration of its own, and all of them are told apart where they would clash.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors, Place, Problem
from kofagent.config.load import LoadedConfig, load_config
from kofagent.pipeline.graph import StartErrors
from kofagent.pipeline.supervisor import CollectorErrors, of_several
from kofagent.pipeline.together import Together, tell_apart


def load_several(
    arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ, *, need_secrets: bool = True
) -> tuple[dict[str, LoadedConfig], Together]:
    """The configurations of several collectors, so that they run together; ConfigErrors with all errors of all of them."""
    from kofagent.values import load_values

    check_names(arguments.collectors, arguments.values, arguments.part, arguments.generation)
    plans: dict[str, LoadedConfig] = {}
    errors: dict[str, Sequence[Problem]] = {}
    for name in arguments.collectors:
        try:
            plans[name] = load_values(
                arguments.values,
                None,
                registry,
                generation=arguments.generation,
                environ=environ,
                collector=name,
                part=arguments.part,
                need_secrets=need_secrets,
                over=arguments.config,
            )
        except ConfigErrors as found:
            errors[name] = found.errors
        else:
            if hasattr(arguments, "state"):
                _keep_on_disk(plans[name], arguments, name)
    if errors:
        raise ConfigErrors(of_several(errors))
    together = tell_apart(plans)
    if together.problems:
        raise ConfigErrors(together.problems)
    return plans, together


def check_names(names: Sequence[str], files: Sequence[str], part: str | None, generation: str | None) -> None:
    """ConfigErrors when a list of collectors names one twice."""
    from kofagent.values.render import collector_names

    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        hint = f"name each once, of {', '.join(collector_names(files, part, generation))}"
        raise ConfigErrors([Problem((), f"{name} is named twice", hint, Place("--collector")) for name in twice])


def load(arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> LoadedConfig:
    """The validated configuration; ConfigErrors with all errors."""
    if arguments.values:
        from kofagent.values import load_values

        config = load_values(
            arguments.values,
            arguments.role,
            registry,
            generation=arguments.generation,
            environ=environ,
            collector=arguments.collector,
            part=arguments.part,
            over=arguments.config,
        )
        if hasattr(arguments, "state"):
            _keep_on_disk(config, arguments, arguments.role or arguments.collector)
        return config
    return load_config(arguments.config, registry, environ=environ)


def _keep_on_disk(config: LoadedConfig, arguments: argparse.Namespace, of: str) -> None:
    """Queues and places of KOF's pipelines on disk, or a warning what is lost without."""
    from kofagent.cli.state import find_state
    from kofagent.values.durable import keep_on_disk, lost_without

    lost = lost_without(config)
    if not lost:
        return
    name = of.replace("/", "_")
    state = find_state(arguments.state, name, os.environ)
    if state.directory:
        keep_on_disk(config, state.directory, registry)
    elif state.why:
        hint = "name a directory that this user may write to with --state, or say --state none"
        config.warnings.append(Problem((), f"no directory for queues and places, so {lost}: {state.why}", hint, warning=True))


def print_warnings(config: LoadedConfig) -> None:
    """Prints the warnings on standard error, one line each."""
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def print_of_several(plans: Mapping[str, LoadedConfig], together: Together) -> None:
    """Prints the warnings of several collectors, each once with the names of those that have it, and how they are told apart."""
    for warning in of_several({name: plan.warnings for name, plan in plans.items()}):
        print(f"warning: {warning}", file=sys.stderr)
    for note in together.notes:
        print(f"note: {note}", file=sys.stderr)


def explain(error: Exception, config: LoadedConfig | None = None) -> str:
    """The lines a user sees: `FILE:LINE: path: what is wrong; what to do`."""
    if isinstance(error, ConfigErrors):
        return str(error)
    if isinstance(error, CollectorErrors):
        return str(ConfigErrors(error.problems))
    if isinstance(error, StartErrors) and config is not None:
        return str(ConfigErrors(config.placed(problem) for problem in error.problems))
    return str(error)
