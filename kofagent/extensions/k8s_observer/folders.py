"""The folders that the kubelet keeps the logs of this node's pods in: NAMESPACE_NAME_UID, in it one for each container."""

from __future__ import annotations

import os
from typing import NamedTuple


class Folder(NamedTuple):
    """The folder of one pod."""

    namespace: str
    name: str
    uid: str


class Folders:
    """What is below the directory; `look` is cheap where nothing came or went."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._changed = -1
        self.found: dict[str, Folder] = {}
        """By uid."""

    def look(self) -> bool:
        """Looks at the disk; whether there is such a directory."""
        try:
            changed = os.stat(self._directory).st_mtime_ns
            if changed != self._changed:
                names = os.listdir(self._directory)
                self.found = {folder.uid: folder for name in names if (folder := _folder(name)) is not None}
                self._changed = changed
        except OSError:
            self._changed, self.found = -1, {}
            return False
        return True

    def containers(self, folder: Folder) -> dict[str, float]:
        """The containers of a pod that have a folder, and when that changed last, Unix time."""
        try:
            with os.scandir(os.path.join(self._directory, "_".join(folder))) as entries:
                return {e.name: e.stat(follow_symlinks=False).st_mtime for e in entries if e.is_dir(follow_symlinks=False)}
        except OSError:
            return {}


def _folder(name: str) -> Folder | None:
    parts = name.split("_")
    return Folder(*parts) if len(parts) == 3 and all(parts) else None
