"""One endpoint: how it is asked, and the points that come of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from kofagent.config.redact import without_secrets
from kofagent.net.client import Answer, HttpClient
from kofagent.net.timing import Certificates, Timing, measure
from kofagent.receivers.httpcheck import catalog
from kofagent.receivers.httpcheck.certificate import seen
from kofagent.receivers.httpcheck.config import Target
from kofagent.receivers.httpcheck.validations import LIMIT, Body, Validations
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.refused import Refused
from kofagent.transform.otlp_metrics import Metric, MetricWriter, Pairs

TIMEOUT = 30.0
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
Add = Callable[..., None]
"""Adds a point: metric, value, and attributes besides `http.url`."""
_LONGEST = 200
"""Characters of `error.message`."""


@dataclass
class Shared:
    """What the endpoints of a target have in common."""

    client: HttpClient
    target: Target
    validations: Validations
    certificates: Certificates


class Check:
    """`run` asks the endpoint once. `start_ns`: since when the sums are counted."""

    def __init__(self, shared: Shared, url: str, on: frozenset[str], limit: float, start_ns: int) -> None:
        self._shared = shared
        self._url = url
        self.name = without_login(url)
        """The attribute `http.url`."""
        self._where: Pairs = (("http.url", self.name),)
        self._on = on
        self._seconds = min(shared.target.timeout or TIMEOUT, limit or float("inf"))
        self._start_ns = start_ns
        self._headers = content_type(shared.target)
        validated = bool(shared.validations) and on & {catalog.PASSED.name, catalog.FAILED.name}
        self._kept = LIMIT + 1 if validated or catalog.SIZE.name in on else 65536

    async def run(self) -> tuple[bytes, int]:
        """The payload and its number of points."""
        time_ns = now_ns()
        writer = MetricWriter(catalog.SCOPE)

        def add(metric: Metric, value: float, *more: tuple[str, object]) -> None:
            if metric.name in self._on:
                writer.add(metric, value, (*self._where, *more), start_ns=self._start_ns, time_ns=time_ns)

        target, answer, error = self._shared.target, None, ""
        with measure(self._shared.certificates) as timing:
            try:
                answer = await self._ask()
            except Refused as refused:
                error = refused.detail or refused.reason
        body = Body(answer.body if answer is not None else b"") if self._kept > LIMIT else None
        add(catalog.DURATION, _ms(time.monotonic() - timing.started))
        self._timings(add, timing)
        if body is not None and body.size:
            if body.whole:
                add(catalog.SIZE, body.size)
            else:
                error = f"the body is longer than the {LIMIT} bytes that are read"
            for metric, counts in zip((catalog.PASSED, catalog.FAILED), self._shared.validations(body), strict=True):
                for kind, count in counts.items():
                    add(metric, count, ("validation.type", kind))
        if error:
            add(catalog.ERROR, 1, ("error.message", without_secrets(error)[:_LONGEST]))
        status = answer.status if answer is not None else 0
        for number, each in enumerate(CLASSES, 1):
            matches = status // 100 == number
            code = (("http.status_code", status),) if matches else ()
            add(catalog.STATUS, matches, *code, ("http.method", target.method), ("http.status_class", each))
        writer.end_resource()
        return writer.take()

    async def _ask(self) -> Answer:
        target = self._shared.target
        return await self._shared.client.request(
            target.method,
            self._url,
            target.body.encode(),
            self._headers,
            compress=bool(target.body),
            limit=self._kept,
            timeout=self._seconds,
        )

    def _timings(self, add: Add, timing: Timing) -> None:
        add(catalog.DNS, _ms(timing.dns))
        add(catalog.CONNECTION, _ms(timing.connection), ("network.transport", "tcp"))
        add(catalog.HANDSHAKE, _ms(timing.handshake))
        add(catalog.REQUEST, _ms(timing.request))
        add(catalog.RESPONSE, _ms(timing.since_answer()))
        shown = seen(timing.certificate() or {}) if catalog.REMAINING.name in self._on else None
        if shown is not None:
            left = int(shown.not_after - now_ns() / 1e9)
            names = (("http.tls.issuer", shown.issuer), ("http.tls.cn", shown.name), ("http.tls.san", shown.alternatives))
            add(catalog.REMAINING, left, *names)


def without_login(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else url


def content_type(target: Target) -> dict[str, str]:
    """The header that `auto_content_type` adds; none where the user sets one."""
    if not target.body or not target.auto_content_type or any(name.lower() == "content-type" for name in target.headers):
        return {}
    if target.body.lstrip().startswith(("{", "[")):
        return {"Content-Type": "application/json"}
    return {"Content-Type": "application/x-www-form-urlencoded" if "=" in target.body else "text/plain"}


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
