"""`Retrying`: sends the requests of a batch and tries again what may succeed later, as `retry_on_failure` says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Generic

from kofagent.component.backoff import Backoff
from kofagent.component.log_limit import LogLimit
from kofagent.component.protocols import Context
from kofagent.component.requests import R, Rejected, Send, TooLarge, Work
from kofagent.component.size_limit import SizeLimit
from kofagent.config.blocks import RetryBlock
from kofagent.telemetry.refused import Refused

LOG_EVERY = 30.0
PASSING = ("3xx", 401, 403, 404, 408, "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")
"""`retryable_statuses` of an agent that runs with KOF values: what a token or a proxy that is being replaced answers."""
BLAMABLE = frozenset({"http 400", "grpc INVALID_ARGUMENT", "rejected"})
"""Refusals of a request for what is in it, which may be in one item."""
IN_VAIN_MOST = 3
"""After so many batches in a row of which the backend took no part, batches are not taken apart for IN_VAIN_PAUSE seconds."""
IN_VAIN_PAUSE = 60.0


def passing(retry: RetryBlock, keep_retrying: bool) -> Callable[[str], bool]:
    """Whether `retry_on_failure` says that a refusal for good, by its reason, is tried again."""
    chosen = retry.retryable_statuses
    if chosen is None:
        chosen = list(PASSING) if keep_retrying else []
    answers = {str(one) for one in chosen}

    def check(reason: str) -> bool:
        kind, _, answer = reason.partition(" ")
        return kind in ("http", "grpc") and (answer in answers or (kind == "http" and f"{answer[:1]}xx" in answers))

    return check


def backoff_of(retry: RetryBlock, keep_retrying: bool) -> Backoff:
    """The waits that `retry_on_failure` asks for; `keep_retrying`: without an end unless the user set one."""
    forever = keep_retrying and "max_elapsed_time" not in retry.model_fields_set
    spread = retry.randomization_factor
    return Backoff(
        retry.initial_interval,
        retry.max_interval or retry.initial_interval,
        multiplier=retry.multiplier,
        jitter=(1 - spread, 1 + spread),
        elapsed=0.0 if forever else retry.max_elapsed_time,
    )


class Retrying(Generic[R]):
    """What consumers of a queue do with a batch. `stopping` ends the waits: each request is then tried once."""

    def __init__(
        self, context: Context, send: Send[R], retry: RetryBlock, limit: SizeLimit | None, stopping: asyncio.Event
    ) -> None:
        self._context = context
        self._send = send
        self._retry = retry
        self._limit = limit
        self._stopping = stopping
        self._healthy = True
        self._log_limit = LogLimit(LOG_EVERY)
        self._passing = passing(retry, context.host.keep_retrying)
        self._in_vain = 0
        self._isolate_again = 0.0

    async def deliver(self, work: Work[R]) -> None:
        """Sends what is left of a batch until it was taken or refused for good.

        Refused when the backend may take the rest later but retries are used up, or the agent stops; `work` knows the rest.
        """
        backoff: Backoff | None = None
        while True:
            try:
                request = work.next()
            except Refused as refusal:  # malformed
                self._drop(work, work.left, _bare(refusal))
                return
            except Exception as error:
                self._drop(work, work.left, self._defect(error))
                return
            if request is None:
                if self._limit is not None:
                    self._limit.settle(work.sent > 0, self._context.log)
                self._isolated(work)
                return
            items = request.items
            outcome = work.hopeless(request) or await self._attempt(request)
            if not isinstance(outcome, Refused):
                work.taken(items, outcome)
                if not self._healthy:
                    self._well()
                backoff = None
            elif isinstance(outcome, TooLarge):
                if self._limit is not None:
                    self._limit.refused(request.size)
                if not work.cut(request):
                    self._drop(work, items, outcome)
            elif outcome.permanent and not (self._retry.enabled and self._passing(outcome.reason)):
                if outcome.reason in BLAMABLE and time.monotonic() >= self._isolate_again and work.isolate(request):
                    continue
                self._drop(work, items, outcome)
            else:
                if outcome.permanent:
                    outcome = _may_pass(outcome)
                if backoff is None:
                    backoff = backoff_of(self._retry, self._context.host.keep_retrying)
                wait = backoff.next(outcome.retry_after)
                if not self._retry.enabled or not backoff.allows(wait) or self._stopping.is_set():
                    raise outcome.copy()
                self.complain(outcome, "sending failed, will try again")
                await self.pause(wait)

    def _isolated(self, work: Work[R]) -> None:
        if work.sent:
            self._in_vain = 0
        elif work.isolating:
            self._in_vain += 1
            if self._in_vain >= IN_VAIN_MOST:
                self._isolate_again = time.monotonic() + IN_VAIN_PAUSE

    async def _attempt(self, request: R) -> Rejected | Refused | None:
        try:
            return await self._send(request)
        except Refused as refusal:
            return _bare(refusal)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # not a cancellation: the client was closed during the call, which gRPC reports so
            return Refused("shutdown", "the connection was closed before the backend answered")
        except Exception as error:
            # a defect of ours must not become an endless retry; the data is lost and that is counted
            return self._defect(error)

    def _defect(self, error: Exception) -> Refused:
        self._context.log.error("cannot send a batch", exc_info=error)
        return Refused("internal error", type(error).__name__, permanent=True)

    async def pause(self, seconds: float) -> None:
        """Waits, but not through a shutdown."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _well(self) -> None:
        self._healthy = True
        self._context.report(None)
        self._context.log.info("sending again")

    def _drop(self, work: Work[R], items: int, refusal: Refused) -> None:
        work.refused(items, refusal)
        self.complain(refusal, f"dropped {items} {work.signal.items}, the backend will not take them", logging.ERROR)

    def complain(self, refusal: Refused, consequence: str, level: int = logging.WARNING) -> None:
        """Sets the status each time, logs a reason at most once in LOG_EVERY seconds."""
        self._healthy = False
        self._context.report(str(refusal))
        if self._log_limit.due(refusal.reason):
            self._context.log.log(level, "%s: %s", consequence, refusal)


def _may_pass(refusal: Refused) -> Refused:
    detail = f"{refusal.detail}; " if refusal.detail else ""
    return Refused(
        refusal.reason, f"{detail}the data waits for another answer (retryable_statuses)", retry_after=refusal.retry_after
    )


def _bare(refusal: Refused) -> Refused:
    """The refusal without what led to it: frames of the traceback would keep the request in memory as long as it is referenced."""
    refusal.__traceback__ = refusal.__context__ = refusal.__cause__ = None
    return refusal
