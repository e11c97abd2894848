"""The scrape loop of one target: when, what is asked for, and what is made of the answer.

A loop never waits for a backend: `emit` hands a finished scrape over and returns at once. A page is all or nothing; a scrape
that fails for whatever reason is `up 0`, ends all series of the page before with staleness markers, and leaves its reason
at the target and (when it changes) in the log.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol

from kofagent.component.turns import in_turns
from kofagent.memory.pressure import PRESSURE, Claim
from kofagent.prometheus import page as pages
from kofagent.prometheus.budgets import Share
from kofagent.prometheus.client import BodyTooLarge, Client, FetchError, NoRoom
from kofagent.prometheus.columns import Columns
from kofagent.prometheus.config import ScrapeConfig
from kofagent.prometheus.page import PageReader, SampleLimitError, Scraped
from kofagent.prometheus.relabel import Rules
from kofagent.prometheus.resources import Part, Resources
from kofagent.prometheus.room import AT_ONCE, TURNS, PageRoom, default_body_limit
from kofagent.prometheus.target import Target, finisher, report_labels
from kofagent.prometheus.text import PageError
from kofagent.telemetry import clock
from kofagent.telemetry.batch import MetricBatch, Samples
from kofagent.telemetry.series import STALE_BITS, Family, Series

STALE: float = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
_MEDIA = {
    "PrometheusText0.0.4": "text/plain;version=0.0.4",
    "PrometheusText1.0.0": "text/plain;version=1.0.0",
    "OpenMetricsText0.0.1": "application/openmetrics-text;version=0.0.1",
    "OpenMetricsText1.0.0": "application/openmetrics-text;version=1.0.0",
}
_REPORT = (
    ("up", "gauge", "The scraping was successful", ""),
    ("scrape_duration_seconds", "gauge", "Duration of the scrape", "seconds"),
    ("scrape_samples_scraped", "gauge", "The number of samples the target exposed", ""),
    ("scrape_samples_post_metric_relabeling", "gauge", "The number of samples remaining after metric relabeling was applied", ""),
    ("scrape_series_added", "gauge", "The approximate number of new series in this scrape", ""),
)
_EXTRA = (
    ("scrape_timeout_seconds", "gauge", "The configured scrape timeout of the target", "seconds"),
    ("scrape_sample_limit", "gauge", "The configured sample limit of the target, 0 without one", ""),
    ("scrape_body_size_bytes", "gauge", "The size of the page after decompression, -1 over the limit", "bytes"),
)


class Emit(Protocol):
    """Takes a finished scrape and returns at once."""

    def __call__(self, target: Target, batch: MetricBatch) -> None: ...


def accept_header(job: ScrapeConfig) -> str:
    """The Accept header for the job's `scrape_protocols`, weights as Prometheus gives them; protobuf is not asked for."""
    out = []
    weight = 6
    for protocol in job.scrape_protocols or ():
        media = _MEDIA.get(protocol)
        if media is not None:
            escaping = f";escaping={job.metric_name_escaping_scheme}" if protocol.endswith("1.0.0") else ""
            out.append(f"{media}{escaping};q=0.{weight}")
        weight -= 1
    return ",".join([*out, f"*/*;q=0.{max(weight, 1)}"])


def is_openmetrics(content_type: str, fallback: str) -> bool:
    """Whether a page is OpenMetrics (else Prometheus text). FetchError for a format that is neither."""
    media = content_type.partition(";")[0].strip().lower()
    if media == "application/openmetrics-text":
        return True
    if media == "text/plain":
        return False
    if media == "application/vnd.google.protobuf" or fallback == "PrometheusProto":
        raise FetchError("the page is in the protobuf format, which was not asked for")
    return fallback.startswith("OpenMetrics")


class ScrapeLoop:
    """Scrapes one target until `run` is cancelled."""

    def __init__(
        self,
        target: Target,
        job: ScrapeConfig,
        client: Client,
        *,
        rules: Rules,
        external: Mapping[str, str],
        emit: Emit,
        log: logging.Logger,
        trim_suffixes: bool = False,
        share: Share | None = None,
    ) -> None:
        self._share = share
        self.target = target
        self._job = job
        self._client = client
        self._emit = emit
        self._log = log
        self.forced_error = ""
        self.reader = PageReader(
            finisher(job, rules, target.labels, external),
            honor_timestamps=job.honor_timestamps,
            track_timestamps=job.track_timestamps_staleness,
            sample_limit=job.sample_limit,
            fits=self._fits,
            share=share,
        )
        reported = _REPORT + (_EXTRA if job.extra_scrape_metrics else ())
        self._report = Columns(
            [
                Series(report_labels(name, target.labels, external), Family(name, kind, text, unit))
                for name, kind, text, unit in reported
            ]
        )
        self._resources = Resources(target, trim_suffixes)
        self._headers = {
            "Accept": accept_header(job),
            "Accept-Encoding": "gzip" if job.enable_compression else "identity",
            "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout:g}",
        }
        self._limit = job.body_size_limit or default_body_limit()
        # What the last large page was found to need.
        self._need = 0
        self._complaint = ""
        self._done = 0
        self._busy = self._leaving = False

    @property
    def scraped_once(self) -> bool:
        """Whether there was a scrape, so that there is something to end."""
        return self._done > 0

    @property
    def scraping(self) -> bool:
        """Whether a scrape is under way."""
        return self._busy

    async def run(self, delay: float = 0.0) -> None:
        """Scrapes at the target's own moment of every interval, until `leave`; first after `delay` seconds at the earliest."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(delay + self.target.offset(time.time() + delay))
        interval = self.target.interval
        due, wall = loop.time(), clock.now()
        tolerance = min(interval / 100, 0.002)
        while True:
            # A timer fires a little late; the time of the samples stays on the grid.
            now = clock.now()
            moment = wall if 0 <= now - wall <= tolerance else now
            self._busy = True
            try:
                await self.scrape(round(moment * 1000))
            finally:
                self._busy = False
            if self._leaving:
                return
            missed = int((loop.time() - due) // interval)
            due, wall = due + (missed + 1) * interval, wall + (missed + 1) * interval
            if abs(clock.now() - wall) > 2 * interval:
                wall = clock.now() + due - loop.time()
            await asyncio.sleep(max(due - loop.time(), 0))

    def leave(self, running: asyncio.Task[None]) -> None:
        """Ends `run`, which runs in this task: at once, or with the scrape that is under way, so that none is lost to a change."""
        self._leaving = True
        if not self._busy:
            running.cancel()

    async def scrape(self, now_ms: int) -> None:
        """One scrape, handed to `emit` with the time `now_ms`."""
        start = time.perf_counter()
        scraped, error, size = await self._attempt(now_ms)
        duration = time.perf_counter() - start
        self._done += 1
        self._note(now_ms, duration, error)
        stale = scraped.stale if not error else self.reader.fail()
        if self._share is not None and not error and self.reader.over:
            self._share.dropped(self.reader.over)
            self._complain(f"{self.reader.over} samples are over the series budget of the namespace and were left out", False)
        report = [0.0 if error else 1.0, duration, float(scraped.total), float(scraped.kept), float(scraped.added)]
        if self._job.extra_scrape_metrics:
            report += [self.target.timeout, float(self._job.sample_limit), float(size)]
        resources, over = ([], self._resources.failed()) if error else self._resources.page(scraped.series)
        groups = self._groups(scraped, resources, now_ms)
        groups.append(Samples(self._report, report, now_ms, self._resources.own))
        groups += _markers(self._resources.ended(stale, over), now_ms)
        self._emit(self.target, MetricBatch(groups))

    def _groups(self, scraped: Scraped, resources: Sequence[Part], now_ms: int) -> list[Samples]:
        """The page by (job, instance): what a page says of other targets (honor_labels) has their resource."""
        times = scraped.timestamps
        column: int | list[int] = now_ms if times is None else [now_ms if t is None else t for t in times]
        out = []
        for resource, series, places in resources:
            if not places:
                return [Samples(series, scraped.values, column, resource, scraped.exemplars)]
            values = [scraped.values[i] for i in places]
            stamps = column if isinstance(column, int) else [column[i] for i in places]
            given = scraped.exemplars or {}
            pinned = {at: given[i] for at, i in enumerate(places) if i in given} or None
            out.append(Samples(series, values, stamps, resource, pinned))
        return out

    async def _attempt(self, now_ms: int) -> tuple[Scraped, str, int]:
        """The page, a reason if it cannot be used, and its size for `scrape_body_size_bytes`."""
        if self.forced_error:
            return Scraped([], [], 0, 0), self.forced_error, 0
        timeout = self.target.timeout
        if not TURNS.free(self._need):
            waits = time.monotonic()
            try:
                async with asyncio.timeout(timeout):
                    await TURNS.wait(self._need)
            except TimeoutError:
                return Scraped([], [], 0, 0), "memory is short: other pages took all of the scrape timeout", 0
            timeout = max(0.001, timeout - (time.monotonic() - waits))
        with TURNS, PRESSURE.claim("pages") as claim:
            room = PageRoom(claim, self.reader.known, self._job.sample_limit)
            try:
                return await self._page(now_ms, timeout, room, claim)
            finally:
                self._need = room.need

    async def _page(self, now_ms: int, timeout: float, room: PageRoom, claim: Claim) -> tuple[Scraped, str, int]:
        """As `_attempt`, when it is this target's turn."""
        empty = Scraped([], [], 0, 0)
        size = 0
        try:
            page = await self._client.get(self.target.url, self._headers, timeout, self._limit, room)
            if page.status != HTTPStatus.OK:
                raise FetchError(f"server returned HTTP status {page.status} {_phrase(page.status)}".rstrip())
            size = len(page.body)
            if not page.body:
                empty.stale = self.reader.fail()
                return empty, "", 0
            openmetrics = is_openmetrics(page.headers.get("content-type", ""), self._job.fallback_scrape_protocol)
            scraped = await self._read(page.body, openmetrics, now_ms, claim)
        except BodyTooLarge:
            hint = "" if self._job.body_size_limit else f" ({self._limit >> 20} MiB; body_size_limit allows more)"
            return empty, f"body size limit exceeded{hint}", -1
        except (NoRoom, pages.NoRoom):
            return empty, f"the page does not fit into the memory that is left (limit: {PRESSURE.limit >> 20} MiB)", size
        except SampleLimitError as error:
            empty.total, empty.kept = error.total, error.kept
            return empty, f"sample limit exceeded ({error.kept} samples, limit {self._job.sample_limit})", size
        except PageError as error:
            empty.total, empty.kept = error.total, error.kept
            return empty, str(error), size
        except (FetchError, ValueError) as error:
            return empty, str(error), size
        except Exception:
            self._log.exception("job %s: %s: a fault in the scraper", self._job.job_name, self.target.url)
            return empty, "a fault in the scraper, see its log", size
        if scraped.duplicates:
            self._complain(f"{scraped.duplicates} samples of series that are twice on the page were left out", False)
        if scraped.out_of_bounds:
            self._complain(f"{scraped.out_of_bounds} samples with times in the future, or beyond 64 bits, were left out", False)
        return scraped, "", size

    def _fits(self, need: int) -> bool:
        """Whether a page can be read on. What a large one needs is asked for first, and held until it is read.

        What it needs besides is taken at once, and measured from then on.
        """
        claim = self._claim
        return claim.grow(need) if claim.ahead else claim.grow(0, need)

    async def _read(self, page: bytes, openmetrics: bool, now_ms: int, claim: Claim) -> Scraped:
        """Reads the page. One of more than AT_ONCE bytes lets others have their turn, and only one of these is read at a time."""
        # hot: scrape, most pages are small and read at once
        self._claim = claim
        if len(page) <= AT_ONCE:
            claim.close()
            return self.reader.read(page, openmetrics, now_ms)
        async with TURNS.reading():
            claim.close()  # the page is in memory, where it is measured; the reader asks for what its lines need
            return await in_turns(self.reader.reading(page, openmetrics, now_ms))

    def _note(self, now_ms: int, duration: float, error: str) -> None:
        target = self.target
        target.last_scrape, target.last_duration, target.last_error = now_ms / 1000, duration, error
        target.health = "down" if error else "up"
        if error:
            self._complain(error, True)
            if self._job.scrape_failure_log_file:
                self._write_failure(error)
        elif self._complaint.startswith("down: "):
            self._complaint = ""
            self._log.info("job %s: %s answers again", self._job.job_name, target.url)

    def _complain(self, reason: str, down: bool) -> None:
        """Logs a reason once, until it changes or the target is well again."""
        key = ("down: " if down else "") + reason
        if key != self._complaint:
            self._complaint = key
            self._log.warning("job %s: %s: %s", self._job.job_name, self.target.url, reason)

    def _write_failure(self, error: str) -> None:
        try:
            with open(self._job.scrape_failure_log_file, "a", encoding="utf-8") as file:
                file.write(f"time={time.time():.3f} job={self._job.job_name!r} target={self.target.url!r} err={error!r}\n")
        except OSError as problem:
            self._complain(f"scrape_failure_log_file: {problem.strerror}", False)

    async def end(self, superseded: Callable[[Series], bool]) -> None:
        """The target is gone: ends its series, but only after the time in which it would have been back under the same name.

        Waits for two scrapes that do not happen and a tenth, as Prometheus does, then marks what `superseded` does not know.
        The markers' time is a hundredth of an interval before the first of them: an agent of another node that continues with the
        same labels scrapes at that very moment, and its sample must be the later one even where the clocks differ a little.
        """
        self.reader.close()
        if not self._done:
            return
        interval = self.target.interval
        first = self.target.offset()
        moment = clock.now() + first - interval / 100
        await asyncio.sleep(first + interval * 1.1)
        stale = [series for series in (*self.reader.fail(), *self._report) if not superseded(series)]
        if stale:
            last = self._resources.last(stale, self._report[0] in stale)
            self._emit(self.target, MetricBatch(_markers(last, round(moment * 1000))))

    def owns(self, series: Series) -> bool:
        """Whether this loop wrote a series with these labels in its last scrape."""
        return self.reader.has(series.labels) or any(series.labels == own.labels for own in self._report)


def _markers(over: Sequence[Part], now_ms: int) -> list[Samples]:
    """Staleness markers for series that are over."""
    return [Samples(series, [STALE] * len(series), now_ms, resource) for resource, series, _ in over]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


__all__: Sequence[str] = ["STALE", "Emit", "ScrapeLoop", "accept_header", "is_openmetrics"]
