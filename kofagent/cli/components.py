"""`kofagent components`: what there is, its reference, and the JSON Schema of the configuration."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kofagent.component import registry
from kofagent.config.errors import suggest
from kofagent.config.model import SECTIONS
from kofagent.config.reference import component_page, options_page, write_reference
from kofagent.config.schema import json_schema
from kofagent.operators.catalog import OPERATORS
from kofagent.telemetry import reasons


def main(arguments: argparse.Namespace) -> int:
    """Prints the list, one component's reference or the schema, or writes all pages; 1 for an unknown type."""
    if arguments.schema:
        print(json.dumps(json_schema(registry), indent=2, sort_keys=True))
    elif arguments.values_schema:
        from kofagent.values.schema import values_schema

        print(json.dumps(values_schema(), indent=2, sort_keys=True))
    elif arguments.docs:
        names = write_pages(arguments.docs)
        print(f"{len(names)} pages in {arguments.docs}")
    elif arguments.component:
        return _one(arguments.component)
    else:
        print(component_list(), end="")
    return 0


def write_pages(directory: str) -> list[str]:
    """Writes the whole reference into a directory: components, operators, reasons. Returns the files' names."""
    names = write_reference(registry, directory, OPERATORS)
    Path(directory, "reasons.md").write_text(reasons.page(), encoding="utf-8")
    from kofagent.ottl import reference  # other commands do without the language

    Path(directory, "ottl-functions.md").write_text(reference.page(), encoding="utf-8")
    return [*names, "reasons.md", "ottl-functions.md"]


def component_list() -> str:
    """Every kind with its types and their other spellings."""
    lines = []
    for kind in SECTIONS:
        lines.append(f"{kind}:")
        for type in sorted(registry.TYPES[kind]):
            others = sorted(old for old, new in registry.ALIASES[kind].items() if new == type)
            lines.append(f"  {type}" + (f" (also {', '.join(others)})" if others else ""))
    lines.append("operators:")
    lines += [f"  {type}" for type in sorted(OPERATORS)]
    return "\n".join(lines) + "\n"


def _one(name: str) -> int:
    """The reference of every component of this type (`otlp` is a receiver and an exporter), or of `kind/type`."""
    kind, slash, type = name.rpartition("/")
    pages = [
        component_page(registry, each, type)
        for each in SECTIONS
        if (not slash or kind == each) and registry.resolve(each, type) is not None
    ]
    if type in OPERATORS and (not slash or kind == "operators"):
        pages.append(options_page(type, "operator", OPERATORS[type]))
    if not pages:
        known = {t for types in registry.TYPES.values() for t in types} | set(OPERATORS)
        hint = suggest(type, known, limit=0) or "run kofagent components for a list"
        print(f"kofagent components: there is no component {name!r}; {hint}", file=sys.stderr)
        return 1
    print("\n".join(pages), end="")
    return 0
