"""Who competes for a Lease: one collector, or all those of one process that name the same."""

from __future__ import annotations

import asyncio
import random
import socket
import uuid

from kofagent.component.protocols import Context, Host
from kofagent.extensions.k8s_leader_elector.config import JITTER, Config
from kofagent.extensions.k8s_leader_elector.lease import Lease
from kofagent.kubernetes.client import ApiClient, shared
from kofagent.kubernetes.errors import ApiError

STOP_SECONDS = 2.0
"""Time for giving the Lease back at the stop."""


class Candidate:
    """Takes and renews the Lease while it has members, who lead together."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        """Who this is in the Lease; another one after each start, so that two of them never take turns unnoticed."""
        self.leads = False
        self.turned = asyncio.Event()
        """Set when `leads`, or who the members are, has changed; there is another one from then on."""
        self.members: dict[str, Context] = {}
        """By collector."""
        self._client: ApiClient | None = None
        self._lease: Lease | None = None
        self._task: asyncio.Task[None] | None = None

    async def join(self, context: Context) -> None:
        """Begins to compete with the first member; it does not wait for the outcome. StartError."""
        if not self.members:
            config = self._config
            self._client = client = shared(context.host, config)
            await client.start()
            self._lease = Lease(client, config.lease_namespace, config.lease_name, self.identity, config.lease_duration)
            self._task = asyncio.create_task(self._compete(self._lease), name=context.id)
        self.members[context.host.collector] = context

    async def leave(self, context: Context) -> None:
        """With its last member it leads no longer, and gives the Lease back."""
        if self.members.get(context.host.collector) is not context:
            return
        del self.members[context.host.collector]
        self._wake()
        if self.members:
            return
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        led, lease, self._lease = self.leads, self._lease, None
        self._turn(False)
        if led:
            context.log.info(_SAID[False])
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
        config, loop = self._config, asyncio.get_running_loop()
        until = 0.0
        """Until when this replica leads without renewing."""
        while True:
            began = loop.time()
            left = max(until - began, config.retry_period) if self.leads else config.renew_deadline
            try:
                async with asyncio.timeout(left):
                    held = await lease.hold()
            except (ApiError, TimeoutError) as error:
                self._report(str(error) or f"the Lease was not answered for within {left:g} s")
                if self.leads and loop.time() >= until:
                    self._turn(False)
            else:
                self._report(None)
                until = began + config.renew_deadline
                self._turn(held)
            wait = config.retry_period * (1.0 if self.leads else random.uniform(1.0, JITTER))
            await asyncio.sleep(min(wait, max(until - loop.time(), 0.0)) if self.leads else wait)

    def _report(self, error: str | None) -> None:
        for context in self.members.values():
            context.report(error)

    def _turn(self, leads: bool) -> None:
        if leads == self.leads:
            return
        self.leads = leads
        for context in self.members.values():
            context.log.info(_SAID[leads])
        self._wake()

    def _wake(self) -> None:
        turned, self.turned = self.turned, asyncio.Event()
        turned.set()


_SAID = {True: "this replica leads now", False: "this replica does not lead any more"}


def candidate(host: Host, config: Config) -> Candidate:
    """The one for a member of a collector. Within one collector two extensions compete, as two replicas do."""
    if not host.collector:
        return Candidate(config)
    found = host.common(("lease", config.model_dump_json()), lambda: Candidate(config))
    return Candidate(config) if host.collector in found.members else found
