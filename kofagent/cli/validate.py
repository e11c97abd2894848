"""`kofagent validate`: everything that is wrong with a configuration, or what it will run."""

from __future__ import annotations

import argparse
import sys

from kofagent.cli.sources import explain, load, print_warnings
from kofagent.config.errors import ConfigErrors
from kofagent.pipeline.graph import Graph, StartErrors
from kofagent.pipeline.service import Service


def main(arguments: argparse.Namespace) -> int:
    """0 for a configuration that could run, 1 with all errors otherwise. Nothing is started."""
    try:
        config = load(arguments)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    print_warnings(config)
    try:
        Graph(config, Service(config)).build()
    except StartErrors as errors:
        print(explain(errors, config), file=sys.stderr)
        return 1
    print(f"valid: {len(config.pipelines)} pipelines")
    for name, pipeline in config.pipelines.items():
        steps = " -> ".join(", ".join(ids) for ids in (pipeline.receivers, pipeline.processors, pipeline.exporters) if ids)
        print(f"  {name}: {steps}")
    return 0
