"""The extension `host_observer`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import ClassVar

from kofagent.component.observing import Endpoint, Telling, Told, Wanted, join_target
from kofagent.component.protocols import Context, Extension
from kofagent.extensions.host_observer.config import Config
from kofagent.extensions.host_observer.sockets import Process, Socket, listening, owners

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to it


class HostObserver(Extension[Config]):
    """Looks at the ports while somebody wants them."""

    types: ClassVar = frozenset({"hostport"})
    proc = "/proc"

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._watching: list[_Watching] = []

    async def stop(self) -> None:
        """Ends all observations."""
        watching, self._watching = self._watching, []
        for each in watching:
            await each.stop()

    def observe(self, wanted: Wanted, told: Told) -> _Watching:
        """As `Observer.observe`."""
        watching = _Watching(self, told, bool(wanted.types & self.types))
        self._watching.append(watching)
        return watching

    def endpoints(self) -> list[Endpoint]:
        """All ports that are listened on now. OSError when they cannot be read."""
        sockets = listening(self.proc)
        held = owners({each.inode for each in sockets}, self.proc)
        return [each for found in sockets for each in self._of(found, held.get(found.inode) or [Process()])]

    def _of(self, found: Socket, processes: list[Process]) -> Iterator[Endpoint]:
        address = _ANYWHERE.get(found.address, found.address)
        for process in processes:
            id = f"({self.context.id}){found.address}-{found.port}-{found.transport}"
            details = {
                "process_name": process.name,
                "command": process.command,
                "is_ipv6": found.v6,
                "port": found.port,
                "transport": found.transport,
            }
            yield Endpoint(f"{id}-{process.pid}" if process.pid else id, "hostport", join_target(address, found.port), details)


class _Watching:
    def __init__(self, observer: HostObserver, told: Told, wanted: bool) -> None:
        self.synced = asyncio.Event()
        self._observer = observer
        self._telling = Telling(told)
        self._task = asyncio.create_task(self._follow() if wanted else self._nothing(), name=observer.context.id)

    async def _nothing(self) -> None:
        self.synced.set()

    async def _follow(self) -> None:
        context = self._observer.context
        failed = ""
        while True:
            try:
                # /proc is memory, but there can be thousands of processes
                found = await asyncio.to_thread(self._observer.endpoints)
            except OSError as error:
                sentence = f"the ports cannot be read: {error}"
                if sentence != failed:
                    context.log.error("%s", sentence)
                    context.report(sentence)
                failed = sentence
            else:
                if failed:
                    context.report(None)
                failed = ""
                self._telling.set("", found)
                self.synced.set()
            await asyncio.sleep(self._observer.config.refresh_interval)

    async def stop(self) -> None:
        """Nothing is told from now on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
