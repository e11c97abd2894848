"""`file_sd_configs`: lists of targets in JSON or YAML files that are read again when they change.

For a file that cannot be read or has a mistake, the last good list stays in use and the error is logged once; a deleted file
removes its targets. Changes are detected by time, size and inode every few seconds.
"""

from __future__ import annotations

import asyncio
import glob
import logging
import os
from typing import Any

import yaml

from kofagent.prometheus.discovery.config import FileSdConfig
from kofagent.prometheus.discovery.group import Group, Update
from kofagent.prometheus.relabel import scalar_text
from kofagent.wire.foreign_json import read_json, whole

POLL_S = 2.0
_LARGEST = 32 * 1024 * 1024


def parse_groups(data: Any, source: str, meta: dict[str, str]) -> list[Group]:
    """Groups of a decoded list `[{targets: [...], labels: {...}}]`; ValueError for anything else."""
    if data is None:
        return []
    if not isinstance(data, list):
        raise ValueError("expected a list of {targets, labels}")
    groups = []
    for i, entry in enumerate(data):
        if not isinstance(entry, dict) or set(entry) - {"targets", "labels"}:
            raise ValueError(f"entry {i}: expected the keys targets and labels")
        targets, labels = entry.get("targets") or [], entry.get("labels") or {}
        if not isinstance(targets, list) or not isinstance(labels, dict):
            raise ValueError(f"entry {i}: targets must be a list and labels a map")
        texts = [scalar_text(target) for target in targets]
        common = {str(key): scalar_text(value) for key, value in labels.items()}
        if not all(isinstance(text, str) for text in (*texts, *common.values())):
            raise ValueError(f"entry {i}: targets and label values must be strings")
        groups.append(Group(f"{source}:{i}", [{"__address__": text} for text in texts], {**common, **meta}))
    return groups


class FileDiscovery:
    """One entry of `file_sd_configs`."""

    def __init__(self, config: FileSdConfig, log: logging.Logger, poll: float = POLL_S) -> None:
        self._config = config
        self._log = log
        self._poll = min(poll, config.refresh_interval) or poll
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._sizes: dict[str, int] = {}
        self._complained: dict[str, str] = {}

    async def run(self, update: Update) -> None:
        while True:
            changes = self.changes()
            if changes:
                update(changes)
            await asyncio.sleep(self._poll)

    def changes(self) -> list[Group]:
        """The groups of files that changed since the last call, and empty groups for what is gone."""
        found: dict[str, tuple[int, int, int]] = {}
        for pattern in self._config.files:
            for path in glob.glob(pattern):
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
        out: list[Group] = []
        for path in [path for path in self._stamps if path not in found]:
            del self._stamps[path]
            self._complained.pop(path, None)
            out += [Group(f"{path}:{i}", []) for i in range(self._sizes.pop(path, 0))]
        for path, stamp in sorted(found.items()):
            if self._stamps.get(path) != stamp:
                self._stamps[path] = stamp
                out += self._read(path)
        return out

    def _read(self, path: str) -> list[Group]:
        try:
            if os.path.getsize(path) > _LARGEST:
                raise ValueError("larger than 32 MiB")
            with open(path, "rb") as file:
                text = file.read()
            data = read_json(text) if path.lower().endswith(".json") else whole(yaml.safe_load(text))
            groups = parse_groups(data, path, {"__meta_filepath": path})
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            if self._complained.get(path) != reason:
                self._complained[path] = reason
                self._log.warning("file_sd_configs: %s: %s; the previous targets stay", path, reason)
            return []
        self._complained.pop(path, None)
        gone = [Group(f"{path}:{i}", []) for i in range(len(groups), self._sizes.get(path, 0))]
        self._sizes[path] = len(groups)
        return groups + gone
