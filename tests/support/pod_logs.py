"""A live writer of container logs in containerd's format that rotates as the kubelet does: all rotated files but the newest are
compressed, the present one is renamed, a new one is begun."""

from __future__ import annotations

import gzip
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

UID = "2ea1b0ce-52ac-4a3c-9a21-4b4c9bd0a2e4"


class PodWriter(threading.Thread):
    """Writes `lines` lines `<marker> line <n>` of one pod, rotating every `rotate_every` lines."""

    def __init__(
        self,
        root: Path,
        marker: str,
        lines: int,
        *,
        pod: str = "web-0",
        namespace: str = "default",
        rotate_every: int = 100,
        pause: float = 0.002,
    ) -> None:
        super().__init__(daemon=True)
        self.folder = root / f"{namespace}_{pod}_{UID}" / "app"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.marker, self.lines, self.rotate_every, self.pause = marker, lines, rotate_every, pause
        self.path = self.folder / "0.log"
        self.path.touch()

    def compress(self) -> None:
        """Compresses the files that were rotated before; a compressed file has its name when it is whole."""
        for rotated in self.folder.glob("0.log.*"):
            if rotated.suffix != ".gz":
                part = Path(f"{rotated}.gz.tmp")
                part.write_bytes(gzip.compress(rotated.read_bytes()))
                part.rename(f"{rotated}.gz")
                rotated.unlink()

    def run(self) -> None:
        file = self.path.open("a")
        for n in range(self.lines):
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
            level = "error: failed" if n % 10 == 0 else "request served"
            file.write(f"{stamp} {'stderr' if n % 10 == 0 else 'stdout'} F {self.marker} line {n:06d} {level}\n")
            file.flush()
            time.sleep(self.pause)
            if n % self.rotate_every == self.rotate_every - 1:
                file.close()
                self.compress()
                os.rename(self.path, self.folder / f"0.log.{n:06d}")
                file = self.path.open("a")
        file.close()
