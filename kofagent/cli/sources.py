"""Loads what `--values` and `--config` name; prints errors of a configuration the same way for every command."""

from __future__ import annotations

import argparse
import os
import sys

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors, Problem
from kofagent.config.load import LoadedConfig, load_config
from kofagent.pipeline.graph import StartErrors


def load(arguments: argparse.Namespace) -> LoadedConfig:
    """The validated configuration; ConfigErrors with all errors."""
    if arguments.values:
        from kofagent.values import load_values

        config = load_values(
            arguments.values,
            arguments.role,
            registry,
            generation=arguments.generation,
            environ=os.environ,
            collector=arguments.collector,
            part=arguments.part,
            over=arguments.config,
        )
        if hasattr(arguments, "state"):
            _keep_on_disk(config, arguments)
        return config
    return load_config(arguments.config, registry, environ=os.environ)


def _keep_on_disk(config: LoadedConfig, arguments: argparse.Namespace) -> None:
    """Queues and places of KOF's pipelines on disk, or a warning what is lost without."""
    from kofagent.cli.state import find_state
    from kofagent.values.durable import keep_on_disk, lost_without

    lost = lost_without(config)
    if not lost:
        return
    name = (arguments.role or arguments.collector).replace("/", "_")
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


def explain(error: Exception, config: LoadedConfig | None = None) -> str:
    """The lines a user sees: `FILE:LINE: path: what is wrong; what to do`."""
    if isinstance(error, ConfigErrors):
        return str(error)
    if isinstance(error, StartErrors) and config is not None:
        return str(ConfigErrors(config.placed(problem) for problem in error.problems))
    return str(error)
