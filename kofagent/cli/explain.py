"""`kofagent explain PIPELINE`: the compiled chain."""

from __future__ import annotations

import argparse
import sys

from kofagent.cli.sources import explain, load, print_warnings
from kofagent.config.errors import ConfigErrors, suggest
from kofagent.pipeline.graph import Graph, StartErrors
from kofagent.pipeline.service import Service


def main(arguments: argparse.Namespace) -> int:
    """Prints the compiled form of each component of the pipeline."""
    config = None
    try:
        config = load(arguments)
        print_warnings(config)
        graph = Graph(config, Service(config))
        graph.build()
    except (ConfigErrors, StartErrors) as errors:
        print(explain(errors, config), file=sys.stderr)
        return 1
    if arguments.pipeline not in config.pipelines:
        hint = suggest(arguments.pipeline, config.pipelines)
        print(f"kofagent explain: there is no pipeline {arguments.pipeline!r}; {hint}", file=sys.stderr)
        return 1
    print(graph.explain(arguments.pipeline), end="")
    return 0
