"""The receiver `httpcheck`."""

from __future__ import annotations

import asyncio
import functools

from kofagent.component.offering import Offer
from kofagent.component.polling import Polling
from kofagent.component.protocols import Context, Receiver
from kofagent.component.statuses import Statuses
from kofagent.net.client import HttpClient
from kofagent.net.timing import Certificates
from kofagent.receivers.httpcheck.check import Check, Shared
from kofagent.receivers.httpcheck.config import Config
from kofagent.receivers.httpcheck.validations import Validations
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.signal import Signal

AT_ONCE = 50
"""Endpoints that are asked at the same time."""


class HttpCheck(Receiver[Config]):
    """Asks every endpoint every `collection_interval`; each answer, or that there is none, is a batch."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._clients: list[HttpClient] = []
        self._pollings: list[Polling] = []
        self._room = asyncio.Semaphore(AT_ONCE)
        self._statuses = Statuses(context)
        self._account = context.ledger.scraper(context.id, "httpcheck")

    def explain(self) -> str:
        """The metrics that are on."""
        endpoints = sum(len(target.urls()) for target in self.config.targets)
        return f"{endpoints} endpoints: {', '.join(sorted(self.config.on()))}\n"

    async def start(self) -> None:
        config, on, start_ns = self.config, self.config.on(), now_ns()
        checks: list[Check] = []
        for target in config.targets:
            client = HttpClient(target, self.context, timed=True)
            self._clients.append(client)
            await client.start()
            shared = Shared(client, target, Validations(target.validations), Certificates())
            checks += [Check(shared, url, on, config.timeout, start_ns) for url in target.urls()]
        offer = Offer(self.context, self.outputs[Signal.METRICS], Signal.METRICS).or_drop
        for check in checks:
            polling = Polling(
                self.context,
                functools.partial(self._collect, check),
                offer,
                interval=config.collection_interval,
                initial_delay=config.initial_delay,
                report=self._statuses.of(check.name),
                name=f"{self.context.id} {check.name}",
            )
            self._pollings.append(polling)
            polling.start()

    async def stop(self) -> None:
        pollings, self._pollings = self._pollings, []
        await asyncio.gather(*(polling.stop() for polling in pollings))
        clients, self._clients = self._clients, []
        for client in clients:
            await client.stop()

    async def _collect(self, check: Check) -> Batch | None:
        async with self._room:
            payload, points = await check.run()
        self._account.scraped(points)
        return Batch(Signal.METRICS, payload, points) if points else None
