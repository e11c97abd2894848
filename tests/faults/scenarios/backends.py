"""Backends that are down, slow, silent, rude, or that answer with every status there is."""

from __future__ import annotations

import asyncio
import itertools
import time
from email.utils import formatdate

from tests.faults import books
from tests.faults.owed import left
from tests.faults.sink import Answer, Key
from tests.faults.trial import Trial


async def down(trial: Trial) -> None:
    """Nobody listens for 10 minutes, then all come back: nothing is lost, attempts back off, the backlog drains at 3 times the rate."""
    await _down(trial, trial.lasts(12, 600), 500)


async def long_down(trial: Trial) -> None:
    """The same for 2 hours at a low rate."""
    await _down(trial, trial.lasts(20, 7200), 20)


async def _down(trial: Trial, seconds: float, rate: float) -> None:
    lines = [trial.pod(f"pod-{n}", rate / 2, 2000) for n in range(2)]
    trial.spans.rate = rate
    await trial.begin()
    for source in trial.sources:
        source.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count and trial.sink.samples.count, 30)
    for road in trial.roads.values():
        await road.close()
    trial.say("the backend is away")
    await asyncio.sleep(seconds)
    waiting = books.read(await trial.agent.page())
    trial.check(waiting["logs"].of["queued"] > 0, "no lines in the queue")
    for road in trial.roads.values():
        await road.open()
    back = time.monotonic()
    mark = {"lines": {key for source in lines for key in source.written()}, "spans": set(trial.spans.acknowledged)}
    fresh = lines[0].name, lines[0].number
    trial.say(f"the backend is back, {waiting['logs'].of['queued']:.0f} lines wait")
    late = asyncio.create_task(_until_it_arrives(trial, fresh, back))
    drained = await trial.until(lambda: not left(mark, trial.sink), 60 + seconds)
    took = time.monotonic() - back
    lateness = await late
    trial.check(lateness <= 60, f"a fresh line was {lateness:.0f} s late")
    trial.figure(f"fresh lines at most {lateness:.1f} s late")
    trial.figure(f"backlog of {seconds:.0f} s drained in {took:.1f} s")
    trial.check(drained and took <= max(10, seconds / 2), f"the backlog of {seconds:.0f} s took {took:.0f} s")
    await trial.settle(60)
    trial.check(not any(trial.result.twice.values()), f"came twice without a reason: {trial.result.twice}")


async def _until_it_arrives(trial: Trial, line: Key, since: float) -> float:
    """Seconds from `since` until this line, which is written then, arrives; they grow no more after that."""
    await trial.until(lambda: line in trial.sink.lines.count, 600)
    return time.monotonic() - since


async def slow(trial: Trial) -> None:
    """Answers after 5 s and 64 KB/s for logs: the other signals and the scrapes do not notice."""
    source = trial.pod("pod", 500, 2000)
    await trial.begin()
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count, 30)
    trial.roads["logs"].rate = 65536
    await _one_is_bad(trial, trial.lasts(15, 120), wait=5)


async def half_open(trial: Trial) -> None:
    """Connections for logs are accepted and nothing comes back: attempts end at the time-out, the others go on."""
    source = trial.pod("pod", 500, 2000)
    await trial.begin(lambda config: config["exporters"]["otlphttp/logs"].update(timeout="3s"))
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count, 30)
    trial.roads["logs"].stalled = True
    await _one_is_bad(trial, trial.lasts(12, 120))
    trial.check("sending again" in trial.agent.output(), "no attempt ended at its time-out")


async def reset(trial: Trial) -> None:
    """Connections for logs are reset in the middle of a body, again and again."""
    source = trial.pod("pod", 500, 2000)
    await trial.begin()
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count, 30)
    trial.roads["logs"].reset_after = 600
    await _one_is_bad(trial, trial.lasts(10, 120))
    trial.figure(f"{trial.roads['logs'].connections} connections for logs")


async def _one_is_bad(trial: Trial, seconds: float, wait: float = 0) -> None:
    """The logs' backend is bad for so long; spans and scrapes are compared with before, then it is good again."""
    spans, asked = len(trial.sink.spans.count), len(trial.sink.asked)
    trial.sink.otherwise = Answer()
    if wait:
        trial.sink.slow_path = ("/v1/logs", wait)
    trial.say("the backend of logs is bad")
    await asyncio.sleep(seconds)
    arrived = len(trial.sink.spans.count) - spans
    trial.check(arrived >= 0.6 * 500 * seconds, f"only {arrived} spans in {seconds:.0f} s beside the bad backend")
    gap = trial.pages.longest_gap()
    trial.check(gap <= 3, f"{gap:.1f} s between two scrapes of a target")
    logs = [one for one in trial.sink.asked[asked:] if one.path == "/v1/logs"]
    trial.figure(
        f"{arrived / seconds:.0f} spans/s beside it, scrapes at most {gap:.1f} s apart, {len(logs)} requests for logs answered"
    )
    trial.roads["logs"].good()
    trial.sink.slow_path = ("", 0)
    await trial.settle(60)


STATUSES = (429, 503, 502, 504, 400, 404, 413, 500)


async def statuses(trial: Trial) -> None:
    """Each status in turn: what may pass is sent again, what is final is dropped and counted, no request before Retry-After."""
    pause = trial.lasts(1, 10)
    source = trial.pod("pod", 300, 4000)
    trial.spans.rate = 200
    await trial.begin()
    for one in (source, trial.spans):
        one.start()
    await trial.until(lambda: trial.sink.lines.count and trial.sink.spans.count and trial.sink.samples.count, 30)
    for status in STATUSES:
        trial.say(f"HTTP {status}")
        trial.sink.otherwise = Answer(status)
        await asyncio.sleep(pause)
        trial.sink.otherwise = Answer()
        # One that is taken shows that the bad answer blocks nobody.
        count = len(trial.sink.asked)
        passed = lambda count=count: {a.path for a in trial.sink.asked[count:] if a.status == 200} >= {"/v1/logs", "/v1/traces"}  # noqa: E731
        trial.check(await trial.until(passed, 20), f"after {status} nothing passed for 20 s")
    for name in ("seconds", "a date"):
        value = "3" if name == "seconds" else formatdate(int(time.time()) + 5, usegmt=True)
        trial.sink.otherwise = Answer(503, {"Retry-After": value})
        count = len(trial.sink.asked)
        await trial.until(lambda count=count: any(a.path == "/api/v1/write" for a in trial.sink.asked[count:]), 20)
        trial.sink.otherwise = Answer()
        first = next((a.at for a in trial.sink.asked[count:] if a.path == "/api/v1/write"), 0.0)
        again = lambda first=first: [a.at for a in trial.sink.asked if a.path == "/api/v1/write" and a.at > first]  # noqa: E731
        trial.check(await trial.until(again, 30), f"not sent again after Retry-After in {name}")
        waited = again()[0] - first if again() else 0.0
        trial.figure(f"Retry-After in {name}: waited {waited:.1f} s")
        trial.check(waited >= 2.8, f"Retry-After in {name} was not waited for: {waited:.1f} s")
    await _backs_off(trial)
    book = await _counted(trial)
    await trial.settle(5, may_be_lost=book)
    for kind, dropped in book.items():
        lost = trial.result.lost[kind]
        trial.check(lost == dropped or kind == "samples", f"{lost} {kind} lost, {dropped} counted as dropped")
    trial.figure("dropped and counted: " + ", ".join(f"{n} {kind}" for kind, n in book.items()))


async def _backs_off(trial: Trial) -> None:
    """Attempts of remote write, one at a time: 200 ms, half as much again each time, at most 2 s, half of each at random."""
    trial.sink.otherwise = Answer(503)
    began = len(trial.sink.asked)
    await asyncio.sleep(6)
    trial.sink.otherwise = Answer()
    times = [one.at for one in trial.sink.asked[began:] if one.path == "/api/v1/write" and one.status == 503]
    waits = [b - a for a, b in itertools.pairwise(times)]
    trial.figure("attempts after " + " ".join(f"{wait:.1f}" for wait in waits) + " s")
    bounds = [(0.5 * pause, 1.5 * pause) for n in range(len(waits)) for pause in [min(2, 0.2 * 1.5**n)]]
    early = [wait for wait, (low, _) in zip(waits, bounds, strict=True) if wait < low - 0.02]
    trial.check(len(waits) >= 3 and not early, f"attempts do not back off: {waits}")
    shares = [wait / high for wait, (_, high) in zip(waits, bounds, strict=True)]
    trial.check(max(shares, default=0) - min(shares, default=0) > 0.05, f"attempts have no jitter: {waits}")


async def poison(trial: Trial) -> None:
    """One span in a hundred batches is a 400: it alone is dropped and counted, its neighbours arrive."""
    trial.spans.rate = 500
    await trial.begin()
    trial.sink.poison = b"client 777"
    trial.spans.start()
    await trial.until(lambda: len(trial.spans.acknowledged) > 9000, 60)
    guilty = {key for key in trial.spans.acknowledged if str(key[1]).startswith("777")}
    await trial.settle(8, may_be_lost={"spans": len(guilty)})
    trial.check(trial.result.lost["spans"] == len(guilty), f"{trial.result.lost['spans']} lost, guilty are {len(guilty)}")
    trial.figure(f"{len(guilty)} guilty spans of {len(trial.spans.acknowledged)}")


async def _counted(trial: Trial) -> dict[str, int]:
    """What the agent says that it has dropped, by kind of items, once its queues are empty."""
    for source in trial.sources:
        await source.stop()
    await trial.emptied()
    kinds = {"lines": "logs", "spans": "traces", "samples": "metrics"}
    now = books.read(await trial.agent.page())
    return {kind: now[signal].lost for kind, signal in kinds.items()}
