"""The processor `tail_sampling`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from kofagent.component.backoff import Backoff
from kofagent.component.log_limit import LogLimit
from kofagent.component.mapping import PIECE
from kofagent.component.protocols import Context, Processor
from kofagent.component.turns import at_once, in_turns
from kofagent.ottl import EvaluationError
from kofagent.processors.tail_sampling.config import Config
from kofagent.processors.tail_sampling.policies import Decide, Trace, compile_policy
from kofagent.processors.tail_sampling.traces import TRACE_OVERHEAD, Decisions, Part, Traces, Waiting, by_trace
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal

HELD_AT_MOST = 60.0
"""Seconds for which sampled spans are offered again while the next component refuses them for now."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds between two offers."""
_HELD = "kofagent_processor_held_items"
_ON_MEMORY = "otelcol_processor_tail_sampling_sampling_traces_on_memory"
NOT_SAMPLED, DROPPED, TOO_LARGE = "not sampled", "dropped", "maximum_trace_size_bytes"
"""Rules by which traces do not pass."""


class TailSamplingProcessor(Processor[Config]):
    """One instance per pipeline."""

    signals = frozenset({Signal.TRACES})
    owns = True

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        compiled = [(policy.name, policy.type == "drop", compile_policy(policy)) for policy in config.policies]
        self._drops: list[tuple[str, Decide]] = [(name, decide) for name, drops, decide in compiled if drops]
        self._samples: list[tuple[str, Decide]] = [(name, decide) for name, drops, decide in compiled if not drops]
        self._traces = Traces()
        self._sending = 0  # spans that were sampled and have no owner yet
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._senders: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._log = LogLimit(30.0)

    def explain(self) -> str:
        """The policies in the order they are asked."""
        return "".join([f"drop by {name}\n" for name, _ in self._drops] + [f"sample by {name}\n" for name, _ in self._samples])

    async def start(self) -> None:
        config, context = self.config, self.context
        cache = config.decision_cache
        sizes = (cache.sampled_cache_size or config.num_traces, cache.non_sampled_cache_size or config.num_traces)
        self._decisions = context.host.kept(("tail_sampling", context.id, self.pipeline, sizes), lambda: Decisions(*sizes))
        ledger, id = context.ledger, context.id
        self._account = ledger.processor(id, self.signal)
        ledger.gauge(
            _HELD,
            "Items a processor holds in memory.",
            self._held,
            processor=id,
            otel_signal=self.signal.value,
            pipeline=self.pipeline,
        )
        ledger.gauge(_ON_MEMORY, "Traces in memory.", lambda: len(self._traces.waiting), processor=id, pipeline=self.pipeline)
        self._task = asyncio.create_task(self._run(), name=f"{id} decides")

    def _held(self) -> float:
        return self._traces.spans + self._sending

    async def stop(self) -> None:
        """Decides on what waits, and hands it on as far as the next component takes it."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        waiting = [(id, self._traces.take(id)) for id in list(self._traces.waiting)]
        if self.config.drop_pending_traces_on_shutdown:
            for _, trace in waiting:
                self._lost("shutdown", trace)
        else:
            self._decide(waiting)
        try:
            await asyncio.gather(*self._senders, return_exceptions=True)
        except asyncio.CancelledError:
            for sender in self._senders:
                sender.cancel()
            raise
        ledger, id = self.context.ledger, self.context.id
        ledger.forget(_HELD, processor=id, otel_signal=self.signal.value, pipeline=self.pipeline)
        ledger.forget(_ON_MEMORY, processor=id, pipeline=self.pipeline)

    async def consume(self, batch: Batch) -> None:
        """Returns when the spans are held, passed on, or left out. Refused where there is no room for them now."""
        self._account.incoming(batch.count)
        try:
            steps = by_trace(batch.payload)
            parts = await in_turns(steps) if batch.count > PIECE else at_once(steps)
        except ValueError as error:
            self.context.ledger.dropped(self.context.id, batch.signal, "malformed", batch.count)
            raise Refused("malformed", f"the payload is not valid OTLP: {error}", permanent=True) from None
        late = {id: decided for id in parts if id not in self._traces.waiting and (decided := self._decisions.of(id)) is not None}
        new = [id for id in parts if id not in late and id not in self._traces.waiting]
        if self.config.block_on_overflow and len(self._traces.waiting) + len(new) > self.config.num_traces and self._traces.waiting:
            raise Refused("backlog", "num_traces traces wait for their decisions", retry_after=1)
        size = sum(part.size for id, part in parts.items() if id not in late) + TRACE_OVERHEAD * len(new)
        if not self.context.host.reserve(size):
            raise Refused("memory budget used up", "the spans of traces that wait take all memory there is for data", retry_after=1)
        sampled = [parts[id] for id, decided in late.items() if decided]
        if sampled:
            try:
                await self._pass(batch, sampled)
            except BaseException:
                self.context.host.release(size)
                raise
        self._counted("early_releases_from_cache_decision", "Spans that follow a decision.", _spans(sampled), sampled="true")
        gone = _spans(part for id, part in parts.items() if late.get(id) is False)
        self._counted("early_releases_from_cache_decision", "Spans that follow a decision.", gone, sampled="false")
        self._filtered(NOT_SAMPLED, gone)
        self._hold({id: part for id, part in parts.items() if id not in late}, size)

    async def _pass(self, batch: Batch, parts: list[Part]) -> None:
        """Hands on spans of traces that were sampled before. Refused."""
        late = Batch(Signal.TRACES, b"".join([part.payload for part in parts]), _spans(parts), batch.metadata)
        await self.next.consume(late)
        self._account.outgoing(late.count)

    def _hold(self, parts: dict[bytes, Part], reserved: int) -> None:
        """Takes the spans over, with the bytes that were reserved for them."""
        config, now = self.config, time.monotonic()
        new = 0
        for id, part in parts.items():
            is_new = id not in self._traces.waiting
            if is_new and (decided := self._decisions.of(id)) is not None:
                self._follow(part, decided)  # decided on while other spans were passed on
                continue
            new += is_new
            if is_new and len(self._traces.waiting) >= config.num_traces:
                self._evict()
            trace = self._traces.add(id, part, now + config.decision_wait)
            reserved -= part.size + (TRACE_OVERHEAD if is_new else 0)
            if part.root and config.decision_wait_after_root_received:
                self._traces.hasten(id, now + config.decision_wait_after_root_received)
            if config.maximum_trace_size_bytes and trace.bytes > config.maximum_trace_size_bytes:
                self._too_large(id)
            elif config.sampling_strategy == "span-ingest":
                self._ingested(id, part, trace.count)
        self.context.host.release(reserved)  # what was new before, and is not any more
        self._counted("new_trace_id_received", "Traces that began.", new)
        self._wake.set()

    def _follow(self, part: Part, sampled: bool) -> None:
        """Spans of a trace that was decided on."""
        if not sampled:
            self._filtered(NOT_SAMPLED, part.count)
            return
        trace = Waiting(0.0)
        trace.parts, trace.count, trace.reserved = [part.payload], part.count, 0
        self._send([trace])

    def _evict(self) -> None:
        """The oldest trace makes room."""
        oldest = next(iter(self._traces.waiting))
        self._counted("sampling_trace_dropped_too_early", "Traces that had to make room before their decision.", 1)
        self._lost("evicted", self._traces.take(oldest))
        if self._log.due("evicted"):
            self.context.log.warning("more than num_traces (%d) traces wait; the oldest are dropped", self.config.num_traces)

    def _too_large(self, id: bytes) -> None:
        trace = self._traces.take(id)
        self._counted("traces_dropped_too_large", "Traces that were larger than maximum_trace_size_bytes.", 1)
        self._decisions.put(id, False)
        self._filtered(TOO_LARGE, trace.count)
        self.context.host.release(trace.reserved)

    def _lost(self, reason: str, trace: Waiting) -> None:
        self.context.ledger.dropped(self.context.id, self.signal, reason, trace.count)
        self.context.host.release(trace.reserved)

    async def _run(self) -> None:
        """Decides on traces when they are due."""
        while True:
            self._wake.clear()
            due = self._traces.next_due()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - time.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._decide(list(self._traces.due(time.monotonic())))

    def _decide(self, traces: list[tuple[bytes, Waiting]]) -> None:
        passing: list[Waiting] = []
        for id, trace in traces:
            if self.config.sampling_strategy == "span-ingest":
                rule: str | None = NOT_SAMPLED  # each part was asked about when it came
            else:
                rule = self._rule(Trace(id, b"".join(trace.parts), trace.count))
            self._decided(id, trace, rule, passing)
        if passing:
            self._send(passing)

    def _decided(self, id: bytes, trace: Waiting, rule: str | None, passing: list[Waiting]) -> None:
        """Carries out a decision: `rule` says why the trace does not pass, None: it does."""
        self._decisions.put(id, rule is None)
        decision = "sampled" if rule is None else "dropped" if rule == DROPPED else "not_sampled"
        sampled = str(rule is None).lower()
        self._counted("global_count_traces_sampled", "Traces by decision.", 1, sampled=sampled, decision=decision)
        if rule is None:
            passing.append(trace)
        else:
            self._filtered(rule, trace.count)
            self.context.host.release(trace.reserved)

    def _ingested(self, id: bytes, part: Part, count: int) -> None:
        """span-ingest: decides on a trace of `count` spans by those that have just come, if these are enough."""
        view = Trace(id, part.payload, count)
        if any(self._asked(name, decide, view, "dropped") for name, decide in self._drops):
            self._decided(id, self._traces.take(id), DROPPED, [])
        elif not self._drops and any(self._asked(name, decide, view, "sampled") for name, decide in self._samples):
            passing: list[Waiting] = []
            self._decided(id, self._traces.take(id), None, passing)
            self._send(passing)

    def _rule(self, trace: Trace) -> str | None:
        """Why a trace does not pass; None: it does."""
        if any(self._asked(name, decide, trace, "dropped") for name, decide in self._drops):
            return DROPPED
        sampled = False
        for name, decide in self._samples:
            sampled = self._asked(name, decide, trace, "sampled") or sampled
            if sampled and self.config.sample_on_first_match:
                break
        return None if sampled else NOT_SAMPLED

    def _asked(self, name: str, decide: Decide, trace: Trace, yes: str) -> bool:
        try:
            answer = decide(trace)
        except Exception as error:
            self._counted("sampling_policy_evaluation_error", "Policies that could not be asked.", 1)
            if self._log.due(("policy", name)):
                defect = not isinstance(error, EvaluationError | ValueError)
                self.context.log.warning("the policy %s could not be asked about a trace: %s", name, error, exc_info=defect)
            return False
        labels = {
            "policy": f"{self.context.id}.{name}" if "/" in self.context.id else name,
            "sampled": str(answer and yes == "sampled").lower(),
            "decision": yes if answer else "not_sampled",
        }
        self._counted("count_traces_sampled", "Traces by policy and its answer.", 1, **labels)
        self._counted("count_spans_sampled", "Spans by policy and its answer.", trace.count, **labels)
        return answer

    def _send(self, traces: list[Waiting]) -> None:
        count, reserved = sum(trace.count for trace in traces), sum(trace.reserved for trace in traces)
        batch = Batch(Signal.TRACES, b"".join([part for trace in traces for part in trace.parts]), count)
        self._sending += count
        task = asyncio.create_task(self._offer(batch, reserved), name=f"{self.context.id} sends")
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)

    async def _offer(self, batch: Batch, reserved: int) -> None:
        """Offers sampled spans until they are taken or lost, and counted."""
        backoff = Backoff(FIRST_WAIT, LONGEST_WAIT, elapsed=HELD_AT_MOST)
        try:
            while True:
                try:
                    await self.next.consume(batch)
                except Refused as refused:
                    wait = backoff.next(refused.retry_after)
                    if not refused.permanent and not self._stopping.is_set() and backoff.allows(wait):
                        await self._pause(wait)
                        continue
                    if not refused.permanent:
                        self._gave_up(batch, "shutdown" if self._stopping.is_set() else refused.reason, refused.detail)
                except Exception:
                    self.context.log.exception("the pipeline failed on %d spans", batch.count)
                    self._gave_up(batch, "internal error", "")
                else:
                    self._account.outgoing(batch.count)
                return
        except asyncio.CancelledError:
            self._gave_up(batch, "shutdown", "")
            raise
        finally:
            self._sending -= batch.count
            self.context.host.release(reserved)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _gave_up(self, batch: Batch, reason: str, detail: str) -> None:
        self.context.ledger.dropped(self.context.id, self.signal, reason, batch.count)
        if self._log.due(("gave up", reason)):
            self.context.log.warning("%d sampled spans are dropped: %s%s", batch.count, reason, f": {detail}" if detail else "")

    def _filtered(self, rule: str, items: int) -> None:
        if items:
            self.context.ledger.filtered(self.context.id, self.signal, rule, items)

    def _counted(self, name: str, help: str, items: int, **labels: str) -> None:
        if items:
            full = f"otelcol_processor_tail_sampling_{name}"
            self.context.ledger.counter(full, help, processor=self.context.id, **labels)(items)


def _spans(parts: Iterable[Part]) -> int:
    return sum(part.count for part in parts)
