"""The extension `k8s_leader_elector`."""

from __future__ import annotations

import asyncio
import random
import socket
import uuid

from kofagent.component.protocols import Context, Extension
from kofagent.extensions.k8s_leader_elector.config import JITTER, Config
from kofagent.extensions.k8s_leader_elector.lease import Lease
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.errors import ApiError

STOP_SECONDS = 2.0
"""Time for giving the Lease back at the stop."""


class LeaderElectorExtension(Extension[Config]):
    """Takes and renews the Lease; see the package."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        """Who this replica is in the Lease; another one after each start, so that two of them never take turns unnoticed."""
        self._leads = False
        self._turned = asyncio.Event()
        self._client: ApiClient | None = None
        self._lease: Lease | None = None
        self._task: asyncio.Task[None] | None = None

    def is_leader(self) -> bool:
        """Whether this replica leads now."""
        return self._leads

    async def changed(self, leads: bool) -> None:
        """Returns when `is_leader` does not say `leads`."""
        while self._leads == leads:
            await self._turned.wait()

    async def start(self) -> None:
        """Begins to compete; it does not wait for the outcome."""
        self._client = client = shared(self.context.host, self.config)
        await client.start()
        self._lease = Lease(client, self.config.lease_namespace, self.config.lease_name, self.identity, self.config.lease_duration)
        self._task = asyncio.create_task(self._compete(self._lease), name=self.context.id)

    async def stop(self) -> None:
        """Leads no longer, and gives the Lease back."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        led, lease, self._lease = self._leads, self._lease, None
        self._turn(False)
        if led and lease is not None:
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await lease.give_back()
            except (ApiError, TimeoutError):
                pass  # the others take it when it has run out
        client, self._client = self._client, None
        if client is not None:
            await client.stop()

    async def _compete(self, lease: Lease) -> None:
        config, loop = self.config, asyncio.get_running_loop()
        until = 0.0
        """Until when this replica leads without renewing."""
        while True:
            began = loop.time()
            left = max(until - began, config.retry_period) if self._leads else config.renew_deadline
            try:
                async with asyncio.timeout(left):
                    held = await lease.hold()
            except (ApiError, TimeoutError) as error:
                self.context.report(str(error) or f"the Lease was not answered for within {left:g} s")
                if self._leads and loop.time() >= until:
                    self._turn(False)
            else:
                self.context.report(None)
                until = began + config.renew_deadline
                self._turn(held)
            wait = config.retry_period * (1.0 if self._leads else random.uniform(1.0, JITTER))
            await asyncio.sleep(min(wait, max(until - loop.time(), 0.0)) if self._leads else wait)

    def _turn(self, leads: bool) -> None:
        if leads == self._leads:
            return
        self._leads = leads
        self.context.log.info("this replica leads now" if leads else "this replica does not lead any more")
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
