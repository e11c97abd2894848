"""Which options upstream has and we have not; to be run before each release, its output in the notes.

python -m tests.upstream_options              # names that are missing here, by component
python -m tests.upstream_options --also-ours  # and those that only we have

`tests/upstream_options.txt` has upstream's names and says from which versions they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from kofagent.component import registry
from kofagent.config.base import spellings

NAMES = Path(__file__).with_suffix(".txt")


def upstream() -> dict[str, list[str]]:
    """Dotted names of options by component (`receivers/otlp`); elements of lists and values of maps are below their option."""
    found: dict[str, list[str]] = {}
    for line in NAMES.read_text().splitlines():
        if not line.startswith("#"):
            component, _, name = line.partition(" ")
            found.setdefault(component, []).append(name)
    return found


def missing(component: str, names: list[str]) -> list[str]:
    """The names that the options of a component have not; of what is missing whole only its own name."""
    kind, _, type_ = component.partition("/")
    out: list[str] = []
    for name in sorted(names):
        if not any(name.startswith(f"{each}.") for each in out) and not _has([registry.load(kind, type_).Config], name.split(".")):
            out.append(name)
    return out


def only_ours(component: str, names: list[str]) -> list[str]:
    """Options at the top of a component that upstream has not."""
    kind, _, type_ = component.partition("/")
    have = {name.partition(".")[0] for name in names}
    fields = registry.load(kind, type_).Config.model_fields.items()
    return sorted(name for name, field in fields if not have & set(spellings(name, field)))


def _has(blocks: list[type[BaseModel]], steps: list[str]) -> bool:
    for block in blocks:
        for name, field in block.model_fields.items():
            if steps[0] in spellings(name, field):
                below = list(_blocks(field.annotation))
                if len(steps) == 1 or not below or _has(below, steps[1:]):
                    return True
    return False


def _blocks(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _blocks(argument)


def main(arguments: list[str]) -> None:
    """Prints what differs."""
    for component, names in sorted(upstream().items()):
        print(f"{component}: {', '.join(missing(component, names)) or '-'}")
        if "--also-ours" in arguments:
            print(f"    only here: {', '.join(only_ours(component, names)) or '-'}")


if __name__ == "__main__":
    main(sys.argv[1:])
