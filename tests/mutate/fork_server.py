"""A process that has imported pytest and the libraries, and runs tests in children of itself, so that a run starts at once.

It is started by its path, so that children import both `kofagent` and `tests` anew, from the folder they are told. One request a line
comes in, one answer a line goes out; `Request` and `Answer` say what is in them.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from copy import copy
from typing import Any, TypedDict

import coverage
import hypothesis
import pytest

MEMORY = 8 << 30
"""Bytes that a run may have."""
LIBRARIES = (
    "pytest_asyncio.plugin",
    "aiohttp",
    "aiohttp.web",
    "boto3",
    "cryptography.x509",
    "opentelemetry.sdk",
    "pydantic",
    "yaml",
)


class Request(TypedDict):
    """Test files; their tests to run, in order, or none for all; seconds; the file for what is printed; where to put reach, or "" ."""

    files: list[str]
    tests: list[str] | None
    seconds: float
    log: str
    reach: str


class Answer(TypedDict):
    """The exit code of pytest, none if the time was over, and what it took."""

    code: int | None
    seconds: float


class Chosen:
    """The tests asked for, in this order. No example is made smaller or kept: a failure is all that counts."""

    def __init__(self, tests: list[str] | None) -> None:
        self.order = None if tests is None else {name: number for number, name in enumerate(tests)}

    def pytest_configure(self) -> None:
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", hypothesis.settings(), phases=phases, database=None)
        hypothesis.settings.load_profile("mutants")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if (order := self.order) is not None:
            items[:] = sorted((item for item in items if item.nodeid in order), key=lambda item: order[item.nodeid])


class Reach:
    """Which tests run which lines, in this process and in those that it starts; what each test takes, and which are red."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        settings = os.path.join(folder, "settings")
        with open(settings, "w") as out:
            out.write(f"[run]\nparallel = true\npatch = subprocess\nsource = {os.getcwd()}/kofagent\n")
        self.coverage = coverage.Coverage(data_file=os.path.join(folder, "lines"), config_file=settings)
        self.coverage.start()
        self.seconds: dict[str, float] = {}
        self.red: list[str] = []
        self.skipped: set[str] = set()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        of_children = copy(self.coverage.config)
        of_children.context = item.nodeid
        os.environ["COVERAGE_PROCESS_CONFIG"] = of_children.serialize()
        yield
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.failed and report.nodeid not in self.red:
            self.red.append(report.nodeid)
        if report.skipped:
            self.skipped.add(report.nodeid)

    def save(self) -> None:
        self.coverage.stop()
        self.coverage.save()
        green = {name: round(took, 3) for name, took in self.seconds.items() if name not in self.skipped and name not in self.red}
        with open(os.path.join(self.folder, "tests.json"), "w") as out:
            json.dump({"root": os.getcwd(), "green": green, "red": self.red}, out)


def child(request: Request) -> int:
    """Runs the tests of a request and says how it went, as pytest does."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, descriptor)
    plugins: list[Any] = [Chosen(request["tests"])]
    options = ["-q", "-m", "not slow", "-p", "no:cacheprovider", "--tb=no"]
    if request["reach"]:
        plugins.append(Reach(request["reach"]))
    else:
        options.append("-x")
    code = int(pytest.main([*options, *request["files"]], plugins=plugins))
    if request["reach"]:
        plugins[-1].save()
    sys.stdout.flush()
    return code


def answer(request: Request) -> Answer:
    """Runs a request in a child, and ends whatever that leaves behind."""
    began = time.monotonic()
    if not (pid := os.fork()):
        code = 3
        try:
            code = child(request)
        finally:
            os._exit(code)
    poll = select.poll()
    poll.register(os.pidfd_open(pid), select.POLLIN)
    in_time = bool(poll.poll(request["seconds"] * 1000))
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status) if in_time else None, "seconds": time.monotonic() - began}


def main() -> None:
    sys.path[0] = os.getcwd()
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
