"""`SteppedClock`: the wall clock that an agent sees, which a trial sets forward and back; `Absent` where no C compiler is."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from tests.faults.small_disk import Absent

SOURCE = Path(__file__).with_name("stepped_clock.c")


class SteppedClock:
    """`environment` makes a process see it. Only the process's own look at the clock is shifted: times of files are true."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise Absent("there is no C compiler for the clock")
        library, self._shift = folder / "stepped_clock.so", folder / "clock-shift"
        self.set(0)
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Absent(f"the clock cannot be compiled: {done.stderr.strip()}")
        self.environment = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._shift)}

    def set(self, seconds: int) -> None:
        """The clock is so much ahead of the true one from now on (below 0: behind)."""
        with self._shift.open("r+b" if self._shift.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))
