"""The scrapers: each file has a `scraper(options, roots)` that gives a `Scrape`.

On Linux they read /proc and /sys themselves, so that `root_path` holds for every one of them; elsewhere psutil is asked.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots

LINUX = sys.platform == "linux"

Scrape = Callable[[Recorder, "Round"], None]
"""Reads once and records; raises OSError or ValueError where nothing at all could be read."""


class Round:
    """What one collection has: its time, the boot time and the moment it must end (`time.monotonic`, None: never)."""

    __slots__ = ("boot_ns", "deadline", "time_ns")

    def __init__(self, time_ns: int, boot_ns: int, deadline: float | None = None) -> None:
        self.time_ns = time_ns
        self.boot_ns = boot_ns
        self.deadline = deadline


def make_scraper(name: str, options: Any, roots: Roots) -> Scrape:
    """The scraper `name` with its options."""
    module = importlib.import_module(f"{__name__}.{name}")
    scrape: Scrape = module.scraper(options, roots)
    return scrape
