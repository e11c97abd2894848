"""The Kubernetes API forgets, stalls, refuses and replaces tokens while events are read from it."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kofagent.kubernetes.resources import CORE_EVENTS
from tests.faults.road import Road
from tests.faults.sources import Numbered
from tests.faults.trial import Trial
from tests.support.fake_kube import FakeKube

RATE = 20
LISTS_A_SECOND = 1.0
"""On average, at most, whatever the API server answers; each 410 may cost one more."""


class Events(Numbered):
    """Numbered events of the cluster, as somebody reports them to the API server."""

    def __init__(self, kube: FakeKube) -> None:
        super().__init__("events", RATE)
        self._kube = kube

    async def make(self, count: int) -> None:
        for number in range(self.number, self.number + count):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            event = {
                "metadata": {"name": f"event-{number}", "namespace": "default", "creationTimestamp": now},
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web-0"},
                "reason": "Trial",
                "type": "Normal",
                "message": f"trial events {number} something happened",
                "lastTimestamp": now,
            }
            self._kube.put(CORE_EVENTS, event)
        self.number += count


async def kubernetes(trial: Trial) -> None:
    """410s, a half-open watch, bursts of 429 and 500, a token that is replaced and refused, a restart: events come once each."""
    async with FakeKube("token-1") as kube, Road(kube.port) as road:
        kube.bookmark_every = 2
        token = trial.folder / "token"
        token.write_text("token-1")
        kubeconfig = trial.folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(road.port, token)))
        trial.agent.environment["KUBECONFIG"] = str(kubeconfig)
        await trial.begin(_with_events)
        trial.check(await trial.until(lambda: kube.watches("events"), 30), "events are not watched")
        source = Events(kube)
        trial.lines.append(source)
        source.start()
        await _arrives(trial, source, "the first events", 30)
        pause = trial.lasts(2, 20)
        for name in ("410 for the watches that are broken", "410 within the stream"):
            trial.say(name)
            (kube.compact if name.startswith("410 for") else kube.gone_in_stream)()
            await asyncio.sleep(pause)
            await _arrives(trial, source, name, 60)
        for status in (429, 500):
            trial.say(f"a burst of {status}")
            began, burst = len(kube.requests), time.monotonic()
            kube.failures = [("/events", status)] * 1000
            kube.compact()
            await asyncio.sleep(trial.lasts(5, 60))
            kube.failures = []
            await _arrives(trial, source, f"a burst of {status}", 60)
            asked = sum(path.endswith("/events") for _, path, _ in kube.requests[began:])
            trial.figure(f"{status}: {asked} requests, {len(_lists(kube, began))} of them lists")
            trial.check(asked <= (time.monotonic() - burst) + 4, f"{asked} requests in a burst of {status}")
        trial.say("a watch that is half-open")
        road.freeze()
        if trial.short:
            await asyncio.sleep(3)
            await road.close()  # in the full form the agent has to find out by itself: 4 to 6 minutes
            await road.open()
        await _arrives(trial, source, "a half-open watch", 60 if trial.short else 420)
        await _replace_token(trial, kube, source, token)
        trial.say("restart")
        await trial.agent.stop()
        await asyncio.sleep(1)
        await trial.agent.start()
        await _arrives(trial, source, "a restart", 30)
        seconds = time.monotonic() - trial.began
        lists = len(_lists(kube, 0))
        trial.figure(f"{source.number} events, {lists} lists in {seconds:.0f} s")
        trial.check(lists <= LISTS_A_SECOND * seconds + 4, f"{lists} lists in {seconds:.0f} s")
        await trial.settle(60)
        trial.check(not trial.result.twice["lines"], f"{trial.result.twice['lines']} events came twice")


async def _replace_token(trial: Trial, kube: FakeKube, source: Events, token: Path) -> None:
    """The API server refuses the old token before the file has the new one; from then on it has a minute."""
    trial.say("the token is replaced")
    kube.tokens = {"token-2"}
    kube.drop_watches()
    await asyncio.sleep(trial.lasts(3, 20))
    token.write_text("token-2")
    replaced = time.monotonic()
    await _arrives(trial, source, "a new token", 60)
    trial.figure(f"new token used after {time.monotonic() - replaced:.1f} s")


async def _arrives(trial: Trial, source: Events, after: str, seconds: float) -> None:
    """An event that is reported from now on arrives."""
    mark = source.number
    arrived = trial.sink.lines.count
    fresh = await trial.until(lambda: any(("events", n) in arrived for n in range(mark, source.number)), seconds)
    trial.check(fresh, f"no event arrived for {seconds:.0f} s after {after}")


def _lists(kube: FakeKube, begin: int) -> list[str]:
    return [
        path
        for _, path, query in kube.requests[begin:]
        if path.endswith("/events") and "watch" not in query and "continue" not in query
    ]


def _kubeconfig(port: int, token: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "trial",
        "clusters": [{"name": "trial", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "trial", "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": "trial", "context": {"cluster": "trial", "user": "trial"}}],
    }


def _with_events(config: dict[str, Any]) -> None:
    config["receivers"]["k8s_events"] = {"auth_type": "kubeConfig", "storage": "file_storage"}
    config["service"]["pipelines"]["logs"]["receivers"] = ["k8s_events"]
    del config["receivers"]["filelog"]
