"""KOF's own pipelines keep on disk what must outlive a restart: places of receivers, queues of exporters.

Only what the user's file does not speak of: a receiver with `storage`, an exporter with a queue of its own stays as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kofagent.config.blocks import QueueBlock
from kofagent.config.model import LoadedConfig
from kofagent.config.references import Registry

STORAGE = "file_storage/kofagent"
ITEMS = 10_000_000
"""`queue_size` in items: the bound in bytes is met first."""
BYTES = 256 << 20
"""Most bytes that the queue of an exporter takes on disk."""
LOCK_SECONDS = 30.0
"""An agent that is being replaced may still have the files."""


def keep_on_disk(config: LoadedConfig, directory: str, registry: Registry) -> None:
    """Keeps the places and queues of a configuration in `directory`, which is created."""
    extensions = config.components.setdefault("extensions", {})
    if STORAGE in extensions:
        return  # the chart's, which says itself what is kept there
    places, queues = list(_places(config)), list(_queues(config))
    if not places and not queues:
        return
    for options in places:
        options.storage = STORAGE
    for options in queues:
        queue = options.sending_queue or QueueBlock()
        update = {"storage": STORAGE, "sizer": "items", "queue_size": ITEMS, "storage_max_size": BYTES}
        options.sending_queue = queue.model_copy(update=update)
    extensions[STORAGE] = registry.load("extensions", "file_storage").Config(
        directory=directory, create_directory=True, timeout=LOCK_SECONDS, recreate=True
    )
    config.service.extensions.append(STORAGE)


def lost_without(config: LoadedConfig) -> str:
    """What a restart costs when there is no directory: the end of a sentence; empty if it costs nothing."""
    lost = []
    if any(True for _ in _queues(config)):
        lost.append("what waits for a backend is lost when the agent ends")
    if any(True for _ in _places(config)):
        lost.append("logs and events that come while no agent runs are not read")
    return " and ".join(lost)


def _places(config: LoadedConfig) -> Iterator[Any]:
    used = (id for pipeline in config.pipelines.values() for id in pipeline.receivers)
    return (options for options in _options(config, "receivers", used, "storage") if "storage" not in options.model_fields_set)


def _queues(config: LoadedConfig) -> Iterator[Any]:
    used = (id for pipeline in config.pipelines.values() for id in pipeline.exporters)
    for options in _options(config, "exporters", used, "sending_queue"):
        if not options.model_fields_set & {"sending_queue", "remote_write_queue", "wal"}:
            yield options


def _options(config: LoadedConfig, kind: str, used: Iterable[str], option: str) -> Iterator[Any]:
    """The options of the components that pipelines use and that have this option."""
    wanted = set(used)
    for id, options in config.components.get(kind, {}).items():
        if id in wanted and option in type(options).model_fields:
            yield options
