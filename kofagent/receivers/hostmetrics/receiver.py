"""The collection loop of `hostmetrics`."""

from __future__ import annotations

import asyncio
import os
import time

from kofagent.component.protocols import Context, Receiver, StartError
from kofagent.net.daemon import in_daemon_thread
from kofagent.receivers.hostmetrics.config import Config
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape, make_scraper
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

_LOGGED_PROBLEMS = 1000


class HostMetrics(Receiver[Config]):
    """Reads the host's metrics every `collection_interval` and hands them on as one batch."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._task: asyncio.Task[None] | None = None
        self._scrapers: list[tuple[str, Scrape, Recorder]] = []
        self._logged: set[tuple[str, str]] = set()
        self._account = context.ledger.receiver(context.id, Signal.METRICS)

    def explain(self) -> str:
        """The metrics that are on, by scraper."""
        return "".join(
            [
                f"{name}: {', '.join(Recorder(name, chosen.metrics).names)}\n"
                for name, chosen in self.config.scrapers.configured().items()
            ]
        )

    async def start(self) -> None:
        config = self.config
        if config.root_path and not os.path.isdir(config.root_path):  # noqa: ASYNC240 -- once, at the start
            raise StartError(f"root_path {config.root_path!r} is not a directory; mount the host's root there or leave it out")
        self.prepare()
        self._task = asyncio.create_task(self._run(), name=self.context.id)

    def prepare(self) -> None:
        """Makes the scrapers; `collect` works afterwards."""
        self._roots = Roots(self.config.root_path)
        self._scrapers = [
            (name, make_scraper(name, chosen, self._roots), Recorder(name, chosen.metrics))
            for name, chosen in self.config.scrapers.configured().items()
        ]

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        config = self.config
        loop = asyncio.get_running_loop()
        at = loop.time() + config.initial_delay
        while True:
            await asyncio.sleep(at - loop.time())
            try:
                await self._collect_and_send()
            except Exception:  # a mistake in one round must not end the rounds
                self.context.log.exception("a collection failed; the next one comes as usual")
            # A collection or a backend that takes longer than the interval leaves out ticks, it does not pile them up.
            at += config.collection_interval * max(1, -(-(loop.time() - at) // config.collection_interval))

    async def _collect_and_send(self) -> None:
        outcome = in_daemon_thread(self.collect, f"{self.context.id} scrape")
        done, _ = await asyncio.wait({outcome}, timeout=max(self.config.collection_interval, self.config.timeout))
        if not done:
            self.context.log.warning(
                "a collection takes longer than %g s; does a mount or /proc not answer?", self.config.collection_interval
            )
            self.context.report("a collection does not end; does a mount or /proc not answer?")
        batch = await outcome
        if not done:
            self.context.report(None)
        if batch is None:
            return
        try:
            await self.outputs[Signal.METRICS].consume(batch)
        except Refused as refused:
            self._account.refused(batch.count)
            if not refused.permanent:
                self.context.ledger.dropped(self.context.id, Signal.METRICS, refused.reason, batch.count)
            self._log_once("", f"metrics were refused: {refused.reason}", refused.detail)
        except Exception:
            self.context.ledger.dropped(self.context.id, Signal.METRICS, "internal error", batch.count)
            raise
        else:
            self._account.accepted(batch.count)

    def collect(self) -> Batch | None:
        """Reads everything once; None when there was nothing to read. Blocks, so it runs in a thread."""
        timeout = self.config.timeout
        deadline = time.monotonic() + timeout if timeout else None
        try:
            boot_ns = self._roots.boot_time_ns() if LINUX else _psutil_boot_ns()
        except (OSError, ValueError) as error:
            boot_ns = 0  # an unknown start
            self._log_once("", "cannot read the boot time; points have no start time", str(error))
        payloads, total = [], 0
        for name, scrape, out in self._scrapers:
            round = Round(time.time_ns(), boot_ns, deadline)
            if deadline is not None and time.monotonic() > deadline:
                out.failed(1, "the timeout ended the collection before this scraper")
            else:
                try:
                    scrape(out, round)
                except Exception as error:  # one scraper never stops the others
                    out.failed(1, f"cannot read the {name} metrics", f"{type(error).__name__}: {error}")
            out.end_resource(b"", round.boot_ns, round.time_ns)
            payload, count, errored, problems = out.take()
            payloads.append(payload)
            total += count
            self._count(name, count, errored)
            for problem, detail in problems.items():
                self._log_once(name, problem, detail)
        return Batch(Signal.METRICS, b"".join(payloads), total) if total else None

    def _count(self, scraper: str, scraped: int, errored: int) -> None:
        labels = {"receiver": self.context.id, "scraper": scraper}
        ledger = self.context.ledger
        ledger.counter("otelcol_scraper_scraped_metric_points", "Metric points that were read.", **labels)(scraped)
        ledger.counter("otelcol_scraper_errored_metric_points", "Metric points that could not be read.", **labels)(errored)

    def _log_once(self, scraper: str, problem: str, detail: str) -> None:
        if (scraper, problem) not in self._logged and len(self._logged) < _LOGGED_PROBLEMS:
            self._logged.add((scraper, problem))
            place = f"scraper {scraper}: " if scraper else ""
            self.context.log.warning(
                "%s%s%s (further ones are counted, not logged)", place, problem, f": {detail}" if detail else ""
            )


def _psutil_boot_ns() -> int:
    import psutil

    return int(psutil.boot_time() * 1e9)
