"""`kofagent render`: the effective configuration as YAML, before references are resolved."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kofagent.component import registry
from kofagent.config.emit import to_yaml
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import read_config
from kofagent.config.secrets import redacted
from kofagent.config.tree import Node
from kofagent.values import Rendered, render_values


def main(arguments: argparse.Namespace) -> int:
    """Prints the configuration; 1 with every error when the values are wrong."""
    try:
        if arguments.values:
            text = render_yaml(arguments.values, arguments.role, arguments.explain, arguments.generation, arguments.config)
        else:
            text = to_yaml(redacted(read_config(arguments.config), registry), explain=arguments.explain)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    print(text, end="")
    return 0


def render_yaml(
    files: Sequence[str], role: str, explain: bool = False, generation: str | None = None, over: Sequence[str] = ()
) -> str:
    """YAML text that `kofagent run --config` takes as it is; name, mode and environment of the workload are comments on top.

    Credentials are references. `explain` says at every key which layer, file and line set it. `over` as in
    `render_values`. Raises `ConfigErrors`.
    """
    rendered = render_values(files, role, generation=generation, over=over)
    if rendered.errors:
        raise ConfigErrors(rendered.errors)
    return to_yaml(redacted(rendered.config, registry), explain=explain, deleted=rendered.deleted, header=_header(rendered))


def _header(rendered: Rendered) -> list[str]:
    lines = [f"{rendered.name} ({rendered.mode}): role {rendered.role} of KOF {rendered.generation}"]
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
    return "from the pod" if entry.get("valueFrom") is not None else f"set at {entry.origin.file}:{entry.origin.line}"


def _text(node: Node | None) -> str:
    return str(node.value) if node is not None else ""
