"""`kofagent render`: the effective configuration as YAML, before references are resolved."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kofagent.cli.sources import check_names, load_several
from kofagent.component import registry
from kofagent.config.emit import to_yaml
from kofagent.config.errors import ConfigErrors, Problem
from kofagent.config.load import read_config
from kofagent.config.secrets import redacted
from kofagent.config.tree import Node
from kofagent.pipeline.supervisor import of_several
from kofagent.pipeline.together import written
from kofagent.values import Rendered, render_values


def main(arguments: argparse.Namespace) -> int:
    """Prints the configuration, and warnings on standard error; 1 with every error when the values are wrong."""
    try:
        if arguments.values and arguments.collectors:
            text = _several(arguments)
        elif arguments.values:
            rendered = render_values(
                arguments.values,
                arguments.role,
                collector=arguments.collector,
                part=arguments.part,
                generation=arguments.generation,
                over=arguments.config,
            )
            text = rendered_yaml(rendered, arguments.explain, arguments.as_run)
            for warning in rendered.warnings:
                print(f"warning: {warning}", file=sys.stderr)
        else:
            text = to_yaml(redacted(read_config(arguments.config), registry), explain=arguments.explain)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    print(text, end="")
    return 0


def _several(arguments: argparse.Namespace) -> str:
    """A document for each collector. ConfigErrors with those of all."""
    check_names(arguments.collectors, arguments.values, arguments.part, arguments.generation)
    roots: dict[str, Node] = {}
    if arguments.as_run:
        plans, together = load_several(arguments, need_secrets=False)
        roots = {name: written(plan.root, together.changes.get(name, [])) for name, plan in plans.items()}
        for note in together.notes:
            print(f"note: {note}", file=sys.stderr)
    documents: list[str] = []
    errors: dict[str, Sequence[Problem]] = {}
    warnings: dict[str, Sequence[Problem]] = {}
    for name in arguments.collectors:
        try:
            rendered = render_values(
                arguments.values, collector=name, part=arguments.part, generation=arguments.generation, over=arguments.config
            )
            warnings[name] = rendered.warnings
            if arguments.as_run:
                rendered.meant = roots.get(name, rendered.meant)
            documents.append(rendered_yaml(rendered, arguments.explain, arguments.as_run))
        except ConfigErrors as found:
            errors[name] = found.errors
    if errors:
        raise ConfigErrors(of_several(errors))
    for warning in of_several(warnings):
        print(f"warning: {warning}", file=sys.stderr)
    return "---\n".join(documents)


def render_yaml(
    files: Sequence[str], role: str, explain: bool = False, generation: str | None = None, over: Sequence[str] = ()
) -> str:
    """YAML text of a role. Raises `ConfigErrors`."""
    return rendered_yaml(render_values(files, role, generation=generation, over=over), explain)


def rendered_yaml(rendered: Rendered, explain: bool = False, as_run: bool = False) -> str:
    """YAML text of a configuration; name, mode and environment of the workload are comments on top.

    Credentials are references. `explain` says at every key which layer, file and line set it. `as_run` is what `kofagent run
    --config` takes as it is; otherwise it is what upstream renders, which may be more than starts. Raises `ConfigErrors`.
    """
    if rendered.errors:
        raise ConfigErrors(rendered.errors)
    config = rendered.to_run if as_run else rendered.config
    return to_yaml(redacted(config, registry), explain=explain, deleted=rendered.deleted, header=_header(rendered))


def _header(rendered: Rendered) -> list[str]:
    kind = "collector" if rendered.fields else "role"
    told = f" ({rendered.note})" if rendered.note else ""
    lines = [f"{rendered.name} ({rendered.mode}): {kind} {rendered.role} of KOF {rendered.generation}{told}"]
    if rendered.run_as_root:
        lines.append("runs as user 0")
    entries = rendered.env.value if rendered.env is not None and rendered.env.is_list else []
    for entry in entries:
        lines.append(f"env {_text(entry.get('name'))}: {_source(entry)}")
    return lines


def _source(entry: Node) -> str:
    """Where a variable comes from; a value written plainly may be a secret and is not shown."""
    ref = entry.get("valueFrom", "secretKeyRef")
    if ref is not None:
        return f"${{secret:{_text(ref.get('name'))}/{_text(ref.get('key'))}}}"
    return "from the pod" if entry.get("valueFrom") is not None else f"set at {entry.origin.place}"


def _text(node: Node | None) -> str:
    return str(node.value) if node is not None else ""
