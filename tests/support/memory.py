"""Memory that is as short as a test says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kofagent.memory.pressure import PRESSURE

MIB = 1 << 20


class Memory:
    """What the kernel would say is in use, bytes; a test changes it."""

    def __init__(self, used: int) -> None:
        self.used = used


@contextmanager
def memory(limit_mib: int, used_mib: int = 0) -> Iterator[Memory]:
    """The process' own PRESSURE, with a limit and a measurement of ours."""
    said = Memory(used_mib * MIB)
    before = PRESSURE._measure, PRESSURE._quick
    PRESSURE._measure = PRESSURE._quick = lambda: said.used
    try:
        PRESSURE.set(limit_mib * MIB)
        yield said
    finally:
        PRESSURE._measure, PRESSURE._quick = before
        PRESSURE.set(0)
