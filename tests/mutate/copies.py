"""A copy of the project in which mutants are run, one after the other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tests import rooms
from tests.mutate.fork_server import Answer, Request


class Copy:
    """The copy and the process that runs tests in it; `with` ends that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        for path in rooms.PROJECT.iterdir():
            if path.is_dir() and (not path.name.startswith(".") or path.name == ".github"):
                shutil.copytree(path, self.folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            elif path.is_file() and path.name != ".git":
                shutil.copy(path, self.folder / path.name)
        if (shared := rooms.PROJECT.parent / "shared").exists():  # what tests/conftest.py looks for
            (folder / "shared").symlink_to(shared)
        self._clock = int(time.time())
        self._log = folder / "log"
        env = {"HYPOTHESIS_PROFILE": "dev", **os.environ, "PYTHONPATH": str(self.folder)}
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
        pipe = subprocess.PIPE
        self._server = subprocess.Popen(command, cwd=self.folder, env=env, stdin=pipe, stdout=pipe, text=True)

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.kill()
        self._server.communicate()

    def write(self, file: str, text: str) -> None:
        """Each content has a time of its own: bytecode is told apart by time, in seconds, and size."""
        path = self.folder / file
        path.write_text(text)
        self._clock += 2
        os.utime(path, (self._clock, self._clock))

    def run(self, files: list[str], tests: list[str] | None, seconds: float, reach: Path | None = None) -> tuple[str, str, float]:
        """Runs tests: ("green" | "red" | "late" | "none", the first that failed or the last line of what was printed, seconds)."""
        request: Request = {
            "files": files,
            "tests": tests,
            "seconds": seconds,
            "log": str(self._log),
            "reach": str(reach) if reach else "",
        }
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer: Answer = json.loads(self._server.stdout.readline())
        if answer["code"] is None:
            return "late", f"took over {seconds:.0f} s", answer["seconds"]
        out = self._log.read_text(errors="replace")
        words = re.search(r"^(?:FAILED|ERROR) (\S+)", out, re.MULTILINE)
        last = out.strip().splitlines()[-1] if out.strip() else ""
        state = {0: "green", 5: "none"}.get(answer["code"], "red")
        return state, words[1] if words else last, answer["seconds"]
