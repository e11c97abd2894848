"""Blocking work in daemon threads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from kofagent.net.daemon import in_daemon_thread


async def test_result_error_and_thread() -> None:
    assert await in_daemon_thread(lambda: threading.current_thread().name, "worker") == "worker"
    assert await in_daemon_thread(lambda: None, "worker") is None

    def fails() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await in_daemon_thread(fails, "worker")


async def test_nobody_waits_any_more() -> None:
    release = threading.Event()
    future = in_daemon_thread(release.wait, "worker")
    future.cancel()
    release.set()
    assert await in_daemon_thread(lambda: 1, "worker") == 1
    await asyncio.sleep(0)


def test_a_hanging_call_does_not_keep_the_process() -> None:
    code = (
        "import asyncio, threading\nfrom kofagent.net.daemon import in_daemon_thread\n"
        "async def main():\n    await asyncio.wait({in_daemon_thread(threading.Event().wait, 'x')}, timeout=0.1)\nasyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
