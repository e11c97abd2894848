"""Options tell the truth: what the reference documents is read by the product, what is accepted without effect says so.

Every option of every component, of operators, of Prometheus' own configuration and of `service` is looked for in the syntax trees
of the product: as an attribute that is read, or as a name in a string of a file that reads attributes by name. Options of a
component have to be read in the component's own files; those of blocks that several components share, anywhere.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kofagent.component import registry
from kofagent.config.model import SECTIONS, SIGNALS, ServiceConfig
from kofagent.config.unused import without_effect
from kofagent.operators.catalog import OPERATORS
from kofagent.telemetry.signal import Signal
from tests.rooms import COMPONENT_ROOMS, ROOT, files, nodes, tree_of

BY_FIELD = "hostmetrics asks every block of patterns for the one field that is its own"
READ_OTHERWISE: dict[tuple[str, str], str] = {
    ("receivers.hostmetrics.config.DeviceMatch", "devices"): BY_FIELD,
    ("receivers.hostmetrics.config.FsTypeMatch", "fs_types"): BY_FIELD,
    ("receivers.hostmetrics.config.MountPointMatch", "mount_points"): BY_FIELD,
    ("receivers.hostmetrics.config.InterfaceMatch", "interfaces"): BY_FIELD,
    ("config.model.PeriodicExporter", "console"): "what has no otlp goes to the console",
}
"""(class, option) -> how it is read without being named."""

SAME_NAME: dict[tuple[str, str], str] = {
    ("receivers.filelog.config.Config", "id"): "the name of a component, `context.id`",
    ("receivers.filelog.config.Config", "type"): "the type of an operator",
    ("receivers.journald.config.Config", "id"): "the name of a component, `context.id`",
    ("receivers.journald.config.Config", "journalctl_path"): "it is checked as upstream does",
    ("receivers.postgresql.config.EventToggle", "enabled"): "many blocks have it",
    ("receivers.postgresql.config.TopQueries", "collection_interval"): "that of the metrics",
    ("receivers.prometheus.config.Config", "target_allocator"): "with it, that there is nothing to scrape is no error",
    ("prometheus.config.PrometheusConfig", "storage"): "the extension of a queue",
    ("prometheus.config.PrometheusConfig", "otlp"): "the exporter of own metrics",
    ("config.blocks.DialerBlock", "timeout"): "time limits of other things",
    ("config.blocks.TpmBlock", "enabled"): "many blocks have it",
    ("config.blocks.TpmBlock", "path"): "paths of other things",
    ("config.blocks.TpmBlock", "auth"): "the authenticator of clients and servers",
    ("config.blocks.QueueBlock", "wait_for_result"): "it is refused with storage",
    ("exporters.prometheusremotewrite.config.CreatedMetricOptions", "enabled"): "many blocks have it",
    ("extensions.file_storage.config.CompactionBlock", "directory"): "the directory of the extension itself",
    ("operators.types.regex_parser.Config", "cache"): "caches of other rooms",
    ("operators.types.regex_parser.CacheBlock", "size"): "sizes of other things",
    ("config.model.TelemetryLogs", "processors"): "processors of a pipeline",
    ("config.model.TelemetryTraces", "processors"): "processors of a pipeline",
    ("config.model.TelemetryTraces", "level"): "the level of logs and metrics",
    ("config.model.PrometheusReader", "translation_strategy"): "that of remote write",
}
"""(class, option) accepted without effect -> what else has that name and is read, or what is checked with it."""


def blocks() -> dict[type[BaseModel], None]:
    """All classes of options, in the order they are met."""
    found: dict[type[BaseModel], None] = {}

    def add(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in found:
            found[annotation] = None
            for field in annotation.model_fields.values():
                add(field.annotation)
        for argument in get_args(annotation):
            add(argument)

    for kind, types in registry.TYPES.items():
        for type_ in types:
            add(registry.load(kind, type_).Config)
    for operator in OPERATORS.values():
        add(operator.Config)
    add(ServiceConfig)
    return found


def options() -> Iterator[tuple[type[BaseModel], str, FieldInfo]]:
    for block in blocks():
        for name, field in block.model_fields.items():
            owner = next(base for base in reversed(block.__mro__) if name in getattr(base, "model_fields", {}))
            if owner is block:  # what is inherited is looked for once, where it is declared
                yield block, name, field


def scope(block: type[BaseModel]) -> Path:
    """The files in which the options of a class have to be read."""
    parts = block.__module__.split(".")[1:]
    if parts[0] in COMPONENT_ROOMS:
        folder = ROOT / parts[0] / parts[1]
        return folder if folder.is_dir() else folder.with_suffix(".py")
    return ROOT


@functools.cache
def read_in(path: Path) -> frozenset[str]:
    """The names that one file reads: attributes, and, where attributes are read by name, all strings outside of declarations."""
    tree = tree_of(path)
    declared = {
        node
        for each in nodes(tree)
        if isinstance(each, ast.ClassDef)
        for line in each.body
        if isinstance(line, ast.AnnAssign)
        for node in ast.walk(line)
    }
    names = {n.attr for n in nodes(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
    if any(isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "getattr" for n in nodes(tree)):
        names |= {n.value for n in nodes(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n not in declared}
    return frozenset(names)


@functools.cache
def read(place: Path) -> frozenset[str]:
    return frozenset().union(*(read_in(f) for f in files() if f == place or place in f.parents))


def named(block: type[BaseModel], name: str) -> tuple[str, str]:
    return f"{block.__module__.removeprefix('kofagent.')}.{block.__name__}", name


ALL = {named(block, name): (block, field) for block, name, field in options()}


def is_read(key: tuple[str, str]) -> bool:
    return key in READ_OTHERWISE or key[1] in read(scope(ALL[key][0]))


def test_there_are_options() -> None:
    assert len(ALL) > 800 and len({block for block, _ in ALL.values()}) > 150


def test_every_option_is_read_or_says_that_it_is_accepted_only() -> None:
    unread = {key for key, (_, field) in ALL.items() if not without_effect(field) and not is_read(key)}
    assert unread == set(), "nothing reads these; read them, or begin their descriptions with 'Accepted'"


def test_what_is_accepted_without_effect_is_not_read() -> None:
    used = {key for key, (_, field) in ALL.items() if without_effect(field) and is_read(key)}
    assert used - SAME_NAME.keys() == set(), "these are read; say what they do"


def test_the_lists_are_not_longer_than_they_have_to_be() -> None:
    assert {key for key in (*READ_OTHERWISE, *SAME_NAME) if key not in ALL} == set(), "there are no such options"
    assert {key for key in SAME_NAME if not (without_effect(ALL[key][1]) and is_read(key))} == set()
    assert {key for key in READ_OTHERWISE if key[1] in read(scope(ALL[key][0]))} == set()


def test_the_sentence_of_what_has_no_effect() -> None:
    """What follows the semicolon is the hint of the warning, so it stands by itself."""
    forms = ("Accepted for compatibility.", "Accepted for compatibility; ", "Accepted when empty", "Accepted only when ")
    assert [key for key, (_, field) in ALL.items() if without_effect(field) and not str(field.description).startswith(forms)] == []


def test_what_repeats_below_the_components_is_the_same() -> None:
    """Configuration stands next to the data model and below the registry, and cannot import either."""
    assert set(SIGNALS) == {signal.value for signal in Signal}
    assert set(SECTIONS) == set(registry.TYPES) == set(registry.ALIASES)
