"""The processor `resourcedetection`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable
from typing import Any

from kofagent.net.daemon import in_daemon_thread
from kofagent.pipeline.component import Context, Processor, StartError
from kofagent.processors.resourcedetection import env, options, system
from kofagent.telemetry.batch import AnyBatch, Batch
from kofagent.telemetry.ledger import ProcessorAccount
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.resources import ResourceMap
from kofagent.wire import edit


class ResourceDetection(Processor):
    """One instance per pipeline; what was detected is added to every distinct resource once."""

    Config = options.Config
    _account: ProcessorAccount

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self.detected: dict[str, Any] = {}
        self._map = ResourceMap(self._change)
        self._refreshing: asyncio.Task[None] | None = None

    def explain(self) -> str:
        """The detectors, the first that knows an attribute decides."""
        how = "replaces what the data has" if self.config.override else "keeps what the data has"
        return f"{', '.join(self.config.detectors)}; {how}\n"

    async def start(self) -> None:
        self._account = self.context.ledger.processor(self.context.id, self.signal)
        try:
            self.detected = await self._detect()
        except (OSError, ValueError) as error:
            raise StartError(f"the resource cannot be detected: {error}") from None
        self.context.log.info("detected resource attributes: %s", ", ".join(sorted(self.detected)) or "none")
        if self.config.refresh_interval:
            self._refreshing = asyncio.create_task(self._refresh(), name=self.context.id)

    async def stop(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
            self._refreshing = None

    async def consume(self, batch: AnyBatch) -> None:
        assert isinstance(batch, Batch)
        self._account.incoming(batch.count)
        try:
            changed = self._map.apply(batch) if self.detected else batch
        except ValueError as error:
            self.context.ledger.dropped(self.context.id, batch.signal, "malformed", batch.count)
            raise Refused("malformed", f"the payload is not valid OTLP: {error}", permanent=True) from None
        await self.next.consume(changed)
        self._account.outgoing(changed.count)

    def _change(self, resource: bytes, key: Hashable) -> bytes:
        if self.config.override:
            return edit.patch(resource, edit.RESOURCE, upsert=self.detected)
        return edit.patch(resource, edit.RESOURCE, insert=self.detected)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self.config.refresh_interval)
            try:
                detected = await self._detect()
            except (OSError, ValueError) as error:
                self.context.log.warning("the resource was not detected again, the former one stays: %s", error)
                continue
            if detected != self.detected:
                self.detected = detected
                self._map.clear()

    async def _detect(self) -> dict[str, Any]:
        """The attributes of all detectors; the first detector that knows one decides. OSError, ValueError."""
        out: dict[str, Any] = {}
        for name in self.config.detectors:
            found = env.detect(self.config.env) if name == "env" else await self._system()
            for key, value in found.items():
                out.setdefault(key, value)
        wanted = self.config.attributes
        return out if wanted is None else {key: value for key, value in out.items() if key in wanted}

    async def _system(self) -> dict[str, Any]:
        """Names are looked up in a thread: a name server that does not answer costs `timeout`, then the kernel's name is taken."""
        config = self.config
        deadline = time.monotonic() + config.timeout if config.timeout else float("inf")
        outcome = in_daemon_thread(lambda: system.detect(config.system, lambda: time.monotonic() < deadline), self.context.id)
        done, _ = await asyncio.wait({outcome}, timeout=config.timeout or None)
        if done:
            return outcome.result()
        self.context.log.warning("the host's name was not found in %g s; does the name server answer? (hostname_sources)",
                                 config.timeout)
        sources = config.system.hostname_sources or ["dns", "os"]
        if "os" not in sources:
            raise OSError(f"none of the hostname_sources {', '.join(sources)} answered in {config.timeout:g} s; add os")
        return system.detect(config.system, lambda: False)

