"""Whoever holds the event loop is named; a process that was stopped, and a loop with much to do, are not."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kofagent.config.compat import running_frame
from kofagent.pipeline.watchdog import Watchdog, _component
from tests.support.components import FakeHost, make_context


class Component:
    """Has a context, as components do."""

    def __init__(self) -> None:
        self.context = make_context("receiver", "busy/1", FakeHost())

    def work(self, held: Any) -> None:
        held()


@asynccontextmanager
async def watched() -> AsyncIterator[None]:
    watchdog = Watchdog(logging.getLogger("kofagent.watchdog"))
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()


def burn() -> None:
    end = time.thread_time() + 0.6
    while time.thread_time() < end:
        pass


def one_call_in_c() -> None:
    """Holds the interpreter as well, so that no other thread runs."""
    end = time.thread_time() + 0.6
    size = 17
    while time.thread_time() < end:
        re.search(f"(a?){{{size}}}a{{{size}}}b", "a" * size)
        size += 1


def wait() -> None:
    time.sleep(0.6)


@pytest.mark.slow
@pytest.mark.parametrize("hold", [burn, one_call_in_c, wait])
async def test_who_holds_the_loop_is_named(hold: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with watched():
        asyncio.get_running_loop().call_soon(Component().work, hold)
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_soon(Component().work, hold)  # not logged again
        await asyncio.sleep(0.01)
    assert caplog.text.count("receiver/busy/1 holds the event loop for more than 250 ms") == 1


class Data:
    """What a batch would be."""


def test_looking_keeps_nothing_of_what_is_looked_at() -> None:
    """What frames have at hand goes with them, without the garbage collector, whichever thread's they are."""
    kept: list[weakref.ref[Data]] = []
    began, end = threading.Event(), threading.Event()

    def work(data: Data) -> None:
        kept.append(weakref.ref(data))
        began.set()
        assert end.wait(10)

    async def goes_on(self: Component) -> AsyncGenerator[str, None]:
        data = Data()
        kept.append(weakref.ref(data))
        yield _component(sys._getframe())
        del data
        yield ""

    async def look() -> None:
        steps = goes_on(Component())
        assert await anext(steps) == "receiver/busy/1"
        await anext(steps)
        assert [ref() for ref in kept] == [None, None]
        await steps.aclose()

    gc.collect()
    gc.disable()
    try:
        other = threading.Thread(target=lambda: work(Data()))
        other.start()
        assert began.wait(10)
        assert running_frame(threading.get_ident()) is not None
        end.set()
        other.join()
        asyncio.run(look())
    finally:
        gc.enable()


async def test_many_short_callbacks_are_no_hold(caplog: pytest.LogCaptureFixture) -> None:
    async with watched():
        end = time.thread_time() + 0.6
        while time.thread_time() < end:
            for _ in range(1000):
                pass
            await asyncio.sleep(0)
    assert "holds the event loop" not in caplog.text


STOPPED = """
import asyncio, logging, sys, time
from kofagent.pipeline.watchdog import Watchdog
logging.basicConfig(stream=sys.stdout)
async def main():
    watchdog = Watchdog(logging.getLogger("w"))
    watchdog.start()
    print("ready", flush=True)
    end = time.thread_time() + 0.8
    while time.thread_time() < end:
        sum(range(1000))
        await asyncio.sleep(0)
    watchdog.stop()
asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_process_that_was_stopped_accuses_nobody() -> None:
    process = subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
    assert "holds" not in process.communicate(timeout=30)[0]
    assert process.returncode == 0
