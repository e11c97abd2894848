"""Says in the log which component holds the event loop: while one callback runs, nothing else of the agent does.

A thread looks ten times a second where the loop's thread is, which costs nothing while the loop waits for something to do. When
it does not wait, the loop is asked for a sign of life, and has a quarter of a second to give it. Only time in which the loop's
thread ran, or was kept from running by what it had called, counts: not that of a process that was stopped, nor that of a thread
the system gave no processor.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
import time
from types import FrameType
from typing import Any, NamedTuple

from kofagent.component.log_limit import LogLimit
from kofagent.config.compat import running_frame

LOOK_EVERY = 0.1
HELD = 0.25
"""Seconds after which a callback is named."""
LOG_EVERY = 60.0
"""Seconds between two lines about the same place."""
_ASK_EVERY = 0.05
_LATE = 2 * _ASK_EVERY
"""A longer time between two looks means that this thread did not run either."""
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Used(NamedTuple):
    """Seconds of the loop's thread: on a processor, and ready to run without getting one."""

    running: float
    waiting: float


class Watchdog:
    """Watches the running loop from `start` to `stop`."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._limit = LogLimit(LOG_EVERY)
        self._ended = threading.Event()
        self._alive = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch the loop, and the thread, that this is called in."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._schedule = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._ended.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            if _waits(running_frame(self._watched)):
                continue
            self._alive.clear()
            try:
                self._loop.call_soon_threadsafe(self._alive.set)
            except RuntimeError:  # the loop is closed
                return
            self._wait_for_life()

    def _wait_for_life(self) -> None:
        held, named = 0.0, ""
        last, used = time.monotonic(), self._used()
        while not self._alive.wait(_ASK_EVERY) and not self._ended.is_set():
            now, ran = time.monotonic(), self._used()
            gap = now - last
            if gap > _LATE:
                # This thread did not run: the process was stopped, or the other one holds the interpreter, which takes a processor.
                gap = min(gap, ran.running - used.running)
            held += max(0.0, gap - (ran.waiting - used.waiting))
            last, used = now, ran
            if held >= HELD and not named:
                named = self._name(running_frame(self._watched))
                if self._limit.due(named):
                    self._log.warning(
                        "%s holds the event loop for more than %d ms; nothing else runs meanwhile", named, HELD * 1000
                    )
        if named and held >= 4 * HELD and self._limit.due(("total", named)):
            self._log.warning("%s held the event loop for %.1f s", named, held)

    def _used(self) -> Used:
        try:
            with open(self._schedule, encoding="ascii") as file:
                running, waiting = file.read().split()[:2]
            return Used(int(running) / 1e9, int(waiting) / 1e9)
        except (OSError, ValueError):
            clock = getattr(time, "pthread_getcpuclockid", None)
            return Used(time.clock_gettime(clock(self._watched)) if clock is not None else 0.0, 0.0)

    def _name(self, frame: FrameType | None) -> str:
        """`receivers/otlp (wire/otlp_json.py:52)`: the component on the stack, if there is one, and our code that runs."""
        where = component = ""
        while frame is not None and not component:
            file = frame.f_code.co_filename
            if not where and file.startswith(_ROOT) and file != __file__:
                where = f"{file.removeprefix(_ROOT)}:{frame.f_lineno}"
            component = _component(frame)
            frame = frame.f_back
        return f"{component} ({where})" if component and where else component or where or "a library"


def _waits(frame: FrameType | None) -> bool:
    """Whether the loop waits for something to do, or has ended."""
    return frame is None or frame.f_code.co_name in ("select", "poll")


def _component(frame: FrameType) -> str:
    """`kind/id` of the component whose method a frame is."""
    local = frame.f_locals
    owner: Any = local.get("self")
    if isinstance(local, dict) and frame.f_code.co_flags & inspect.CO_OPTIMIZED and frame.f_trace is None:
        local.clear()  # until Python 3.13 it is a copy that stays with the frame: a coroutine would keep the batch it had then
    for name in ("context", "_context"):
        context: Any = getattr(owner, name, None)
        if type(context).__name__ == "Context" and isinstance(getattr(context, "id", None), str):
            collector = getattr(context.host, "collector", "")
            return f"{collector}: {context.kind}/{context.id}" if collector else f"{context.kind}/{context.id}"
    return ""
