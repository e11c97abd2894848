"""The table of pods under any history: live pods are found, nothing of the dead stays."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from kofagent.processors.k8sattributes.config import Config
from kofagent.processors.k8sattributes.extract import Extraction
from kofagent.processors.k8sattributes.pods import Pods
from tests.support.examples import examples

UID = 0
GRACE = 10
steps = st.lists(
    st.tuples(st.sampled_from(["put", "put", "remove", "pass"]), st.integers(0, 5), st.integers(0, 3), st.integers(0, 12)),
    max_size=60,
)


def made(number: int, address: int, started: int) -> dict[str, Any]:
    return {
        "metadata": {"name": f"p{number}", "namespace": "a", "uid": f"u{number}"},
        "spec": {},
        "status": {"podIP": f"10.0.0.{address}", "startTime": f"2026-01-01T00:00:{started:02}Z"},
    }


@given(steps)
@settings(max_examples=examples(300))
@example([("put", 0, 0, 0), ("remove", 0, 0, 0), ("put", 0, 0, 0), ("pass", 0, 0, 7), ("remove", 0, 0, 0), ("pass", 0, 0, 3)])
def test_any_history(history: list[tuple[str, int, int, int]]) -> None:
    pods = Pods([["k8s.pod.uid"], ["k8s.pod.ip"]], Extraction(Config()), GRACE)
    live: dict[int, dict[str, Any]] = {}
    gone: dict[int, float] = {}
    now = 0.0
    for what, number, address, moment in history:
        if what == "put":
            live[number] = made(number, address, number)
            gone.pop(number, None)
            pods.put(live[number], now)
        elif what == "remove" and number in live:
            pods.remove(live.pop(number), now)
            gone[number] = now
        elif what == "pass":
            now += moment
        pods.expire(now)
        for number, pod in live.items():
            found = pods.find((UID, f"u{number}"))
            assert found is not None and pods.pod(found) == pod
        for number, since in gone.items():
            assert (pods.find((UID, f"u{number}")) is not None) == (now < since + GRACE)
    for number in list(live):
        pods.remove(live.pop(number), now)
    pods.expire(now + GRACE)
    assert len(pods) == 0 and not any(pods._by_place) and not pods._leaving, "something stays for ever"
