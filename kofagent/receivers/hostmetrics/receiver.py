"""The receiver `hostmetrics`."""

from __future__ import annotations

import asyncio
import os
import time

from kofagent.component.log_limit import LogLimit
from kofagent.component.offering import Offer
from kofagent.component.polling import Polling
from kofagent.component.protocols import Context, Receiver, StartError
from kofagent.net.daemon import in_daemon_thread
from kofagent.receivers.hostmetrics.config import Config
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape, make_scraper
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.signal import Signal


class HostMetrics(Receiver[Config]):
    """Reads the host's metrics every `collection_interval` and hands them on as one batch."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._polling: Polling | None = None
        self._scrapers: list[tuple[str, Scrape, Recorder]] = []
        self._log = LogLimit()

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
            raise StartError(f"root_path {config.root_path!r} is not a directory; mount the host's root there or remove the option")
        self.prepare()
        self._polling = Polling(
            self.context,
            self._collect,
            Offer(self.context, self.outputs[Signal.METRICS], Signal.METRICS).or_drop,
            interval=config.collection_interval,
            initial_delay=config.initial_delay,
        )
        self._polling.start()

    def prepare(self) -> None:
        """Makes the scrapers; `collect` works afterwards."""
        self._roots = Roots(self.config.root_path)
        self._scrapers = [
            (name, make_scraper(name, chosen, self._roots), Recorder(name, chosen.metrics))
            for name, chosen in self.config.scrapers.configured().items()
        ]

    async def stop(self) -> None:
        if self._polling is not None:
            polling, self._polling = self._polling, None
            await polling.stop()

    async def _collect(self) -> Batch | None:
        outcome = in_daemon_thread(self.collect, f"{self.context.id} scrape")
        done, _ = await asyncio.wait({outcome}, timeout=max(self.config.collection_interval, self.config.timeout))
        if not done:
            self.context.log.warning(
                "a collection takes longer than %g s; check whether a mount or /proc hangs", self.config.collection_interval
            )
            self.context.report("a collection hangs; check whether a mount or /proc hangs")
        batch = await outcome
        if not done:
            self.context.report(None)
        return batch

    def collect(self) -> Batch | None:
        """Reads everything once; None when there was nothing to read. Blocks, so it runs in a thread."""
        timeout = self.config.timeout
        deadline = time.monotonic() + timeout if timeout else None
        try:
            boot_ns = self._roots.boot_time_ns() if LINUX else _psutil_boot_ns()
        except (OSError, ValueError) as error:
            boot_ns = 0  # an unknown start
            self._log_once("", "cannot read the boot time, so points have no start time", str(error))
        payloads, total = [], 0
        for name, scrape, out in self._scrapers:
            round = Round(now_ns(), boot_ns, deadline)
            if deadline is not None and time.monotonic() > deadline:
                out.failed(1, "the collection timed out before this scraper")
            else:
                try:
                    scrape(out, round)
                except Exception as error:  # one scraper never stops the others
                    out.failed(1, f"cannot read the {name} metrics", f"{type(error).__name__}: {error}")
            out.end_resource(b"", round.boot_ns, round.time_ns)
            payload, count, errored, problems = out.take()
            payloads.append(payload)
            total += count
            account = self.context.ledger.scraper(self.context.id, name)
            account.scraped(count)
            account.errored(errored)
            for problem, detail in problems.items():
                self._log_once(name, problem, detail)
        return Batch(Signal.METRICS, b"".join(payloads), total) if total else None

    def _log_once(self, scraper: str, problem: str, detail: str) -> None:
        if self._log.due((scraper, problem)):
            place = f"scraper {scraper}: " if scraper else ""
            self.context.log.warning(
                "%s%s%s (further cases are counted, not logged)", place, problem, f": {detail}" if detail else ""
            )


def _psutil_boot_ns() -> int:
    import psutil

    return int(psutil.boot_time() * 1e9)
