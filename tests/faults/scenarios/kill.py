"""The agent is killed, stopped and told to reload, under load."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.faults.trial import MIB, Trial

READY_WITHIN = 5.0


async def kill(trial: Trial) -> None:
    """kill -9 at random phases, then SIGTERMs, under 2000 lines/s with rotation and gzip, 500 spans/s and 20 scrapes/s."""
    kills, terms = (3, 1) if trial.short else (20, 10)
    lines = [trial.pod(f"pod-{n}", 500, 1500) for n in range(4)]
    await trial.begin()
    for source in [*lines, trial.spans]:
        source.start()
    slowest = 0.0
    chance = random.Random(5)
    for n in range(kills + terms):
        await asyncio.sleep(chance.uniform(1, 3 if trial.short else 10))
        if n < kills:
            await trial.agent.kill()
        else:
            code, took = await trial.agent.stop()
            trial.check(code == 0 and took <= 10, f"SIGTERM: exit {code} after {took:.1f} s")
        await asyncio.sleep(chance.uniform(0, 1))
        slowest = max(slowest, await trial.agent.start())
        trial.say(f"{n + 1} of {kills + terms} ends, {len(trial.sink.lines.count)} lines arrived")
    trial.figure(f"ready again in at most {slowest:.1f} s")
    trial.check(slowest <= READY_WITHIN, f"not ready again within {READY_WITHIN:.0f} s: {slowest:.1f} s")
    await asyncio.sleep(2)
    await trial.settle(60 if trial.short else 180)
    of = {"lines": 2000 * 2 * (kills + terms), "spans": trial.spans.repeated + 500 * 2 * (kills + terms)}
    for kind, most in of.items():
        trial.check(
            trial.result.twice[kind] <= most,
            f"{trial.result.twice[kind]} {kind} came again, {most} are a second and what is under way",
        )
    trial.figure(
        f"{sum(source.number for source in lines)} lines, {len(trial.spans.acknowledged)} spans, {len(trial.pages.served)} pages"
    )


async def reload(trial: Trial) -> None:
    """SIGHUPs under load: nothing is lost, neither descriptors nor memory grow."""
    reloads = 8 if trial.short else 50
    source = trial.pod("pod", 500, 2000)
    await trial.begin()
    source.start()
    trial.spans.rate = 200
    trial.spans.start()
    warm = 3  # what is made once
    for n in range(reloads):
        trial.configure(lambda config, n=n: _other(config, n))  # type: ignore[misc]
        await trial.agent.reload()
        await asyncio.sleep(0.5)
        if n == warm - 1:
            descriptors, memory = trial.agent.descriptors(), trial.agent.memory()
        if n % 5 == 4:
            trial.say(f"{n + 1} of {reloads} reloads, {trial.agent.memory() / MIB:.0f} MiB")
    await asyncio.sleep(2)
    more = trial.agent.descriptors() - descriptors
    grown = (trial.agent.memory() - memory) / MIB
    each = grown / (reloads - warm)
    trial.figure(f"descriptors {descriptors} and {more:+d}, memory {memory / MIB:.0f} and {grown:+.0f} MiB")
    trial.check(more <= 10, f"{more} descriptors more after {reloads - warm} reloads")
    trial.check(grown <= max(8, 0.2 * (reloads - warm)), f"{grown:.0f} MiB more after {reloads - warm} reloads, {each:.2f} each")
    await trial.settle(30)


def _other(config: dict[str, Any], number: int) -> None:
    """Every component has another option than before, so that all are made anew."""
    odd = number % 2
    config["receivers"]["filelog"]["poll_interval"] = f"{200 + odd}ms"
    config["receivers"]["prometheus"]["config"]["scrape_configs"][0]["sample_limit"] = 1000 + odd
    config["receivers"]["otlp"]["protocols"]["http"]["max_request_body_size"] = (20 << 20) + odd
    config["processors"]["batch"]["timeout"] = f"{200 + odd}ms"
    for exporter in config["exporters"].values():
        exporter["timeout"] = f"{10 + odd}s"
