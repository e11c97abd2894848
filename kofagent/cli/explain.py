"""`kofagent explain PIPELINE`: the compiled chain."""

from __future__ import annotations

import argparse
import sys

from kofagent.cli.sources import explain, load, load_several, print_of_several, print_warnings
from kofagent.config.errors import ConfigErrors, Problem, suggest
from kofagent.pipeline.graph import Graph, StartErrors
from kofagent.pipeline.service import Service
from kofagent.pipeline.supervisor import of_several


def main(arguments: argparse.Namespace) -> int:
    """Prints the compiled form of each component of the pipeline."""
    if arguments.collectors and arguments.values:
        return _several(arguments)
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


def _several(arguments: argparse.Namespace) -> int:
    """The pipeline of each collector that has one of this name."""
    try:
        plans, together = load_several(arguments)
        print_of_several(plans, together)
        graphs = {name: Graph(plan, Service(plan, collector=name)) for name, plan in plans.items()}
        problems: dict[str, list[Problem]] = {}
        for name, graph in graphs.items():
            try:
                graph.build()
            except StartErrors as errors:
                problems[name] = [plans[name].placed(problem) for problem in errors.problems]
        if problems:
            raise ConfigErrors(of_several(problems))
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    found = {name: graph for name, graph in graphs.items() if arguments.pipeline in plans[name].pipelines}
    if not found:
        hint = suggest(arguments.pipeline, {pipeline for plan in plans.values() for pipeline in plan.pipelines})
        print(f"kofagent explain: none of these collectors has a pipeline {arguments.pipeline!r}; {hint}", file=sys.stderr)
        return 1
    print("\n".join(f"# collector {name}\n{graph.explain(arguments.pipeline)}" for name, graph in found.items()), end="")
    return 0
