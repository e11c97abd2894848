"""Loads what `--values`, `--role` and `--config` name; prints errors of a configuration the same way for every command."""

from __future__ import annotations

import argparse
import os
import sys

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import LoadedConfig, load_config
from kofagent.pipeline.graph import StartErrors


def load(arguments: argparse.Namespace) -> LoadedConfig:
    """The validated configuration; ConfigErrors with all errors."""
    if arguments.values:
        from kofagent.values import load_values

        return load_values(
            arguments.values, arguments.role, registry, generation=arguments.generation, environ=os.environ, over=arguments.config
        )
    return load_config(arguments.config, registry, environ=os.environ)


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
