"""`Changes`: each state of each object at most once, the last state of each always, in order, whatever fails between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from kofagent.kubernetes import changes as module
from kofagent.kubernetes.changes import Changes, Handlers, Record, unix_nanos, unix_seconds
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.resources import CONFIGMAPS
from kofagent.kubernetes.watch import Query, Timing
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube

FAST = Timing(first_wait=0.005, longest_wait=0.02, watch_seconds=(30, 30), margin=5)


class Receiver:
    """Delivers to a list; keeps its position over `start` and `stop`."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self.kept: bytes | None = None
        self.got: list[tuple[str, str, int]] = []  # kind, name, version
        self.statuses: list[str | None] = []
        self.delay = 0.0
        self.changes: Changes | None = None

    def start(self, **options: Any) -> None:
        self.changes = Changes(
            self.client,
            Query(CONFIGMAPS),
            Handlers(self.convert, self.deliver, lambda obj, since: True, self.load, self.save, self.statuses.append),
            timing=FAST,
            initial="all",
            **options,
        )
        self.changes.start()

    async def stop(self, seconds: float = 5) -> None:
        assert self.changes is not None
        await self.changes.stop(seconds)

    def convert(self, kind: str, obj: dict[str, Any]) -> Record | None:
        metadata = obj["metadata"]
        return b"", f"{kind} {metadata['name']} {metadata['resourceVersion']}".encode()

    async def deliver(self, records: Sequence[Record]) -> None:
        await asyncio.sleep(self.delay)
        for _, record in records:
            kind, name, version = record.decode().split()
            self.got.append((kind, name, int(version)))

    async def load(self) -> bytes | None:
        return self.kept

    async def save(self, value: bytes) -> None:
        self.kept = value


def note(name: str, text: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "a"}, "data": {"text": text}}


async def marked(kube: FakeKube, receiver: Receiver) -> None:
    """Changes one more object and waits for it: what was on its way before, once or twice, is there then."""
    version = int(kube.put(CONFIGMAPS, note("marker"))["metadata"]["resourceVersion"])
    await eventually(lambda: any(v == version for _, _, v in receiver.got))


@pytest.mark.parametrize("seed", range(12))
async def test_random_faults(kube: FakeKube, client: ApiClient, seed: int) -> None:
    chance = random.Random(seed)
    kube.page_cap = chance.choice([0, 1, 3])
    receiver = Receiver(client)
    receiver.delay = chance.choice([0.0, 0.001])
    receiver.start()
    counter = 0
    for _ in range(120):
        what = chance.choice(
            ["put"] * 8 + ["drop", "end", "gone", "compact", "bookmark", "expire", "fail", "sleep", "restart", "server"]
        )
        if what == "put":
            counter += 1
            kube.put(CONFIGMAPS, note(f"n{chance.randrange(12)}", str(counter)))
        elif what == "gone":
            await asyncio.sleep(0.01)  # in a real stream nothing is sent behind the error
            kube.gone_in_stream()
            await asyncio.sleep(0.01)
        elif what == "expire":
            kube.expire_continue = True
        elif what == "fail":
            kube.failures.append(("configmaps", chance.choice([500, 410, 429, 403])))
        elif what == "sleep":
            await asyncio.sleep(chance.random() * 0.03)
        elif what == "restart":
            await receiver.stop()
            receiver.start()
        elif what == "server":
            await kube.stop()
            await asyncio.sleep(chance.random() * 0.03)
            await kube.start()
        else:
            {"drop": kube.drop_watches, "end": kube.end_watches, "compact": kube.compact, "bookmark": kube.bookmark}[what]()
    kube.failures.clear()
    last = {o["metadata"]["name"]: int(o["metadata"]["resourceVersion"]) for o in kube.items(CONFIGMAPS)}
    try:
        await marked(kube, receiver)
        assert set(last.items()) <= {(name, version) for _, name, version in receiver.got}
    finally:
        await receiver.stop()
    versions = [version for _, _, version in receiver.got]
    assert len(versions) == len(set(versions)), "a state came twice"
    assert versions == sorted(versions), "out of order"
    assert all(kind in ("ADDED", "MODIFIED") for kind, _, _ in receiver.got)
    assert receiver.kept is not None


async def test_a_list_too_large_to_be_held_goes_on_in_its_own_order(
    kube: FakeKube, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_BYTES", 300)
    monkeypatch.setattr(module, "WAITING_BYTES", 1000)
    kube.page_cap = 5
    for i in reversed(range(100)):  # the list is in the order of names, which is not that of the changes
        kube.put(CONFIGMAPS, note(f"n{i:03}"))
    receiver = Receiver(client)
    receiver.delay = 0.001
    kube.expire_continue = True  # the first list breaks off half-way
    receiver.start()
    await eventually(lambda: len(receiver.got) >= 100)
    await marked(kube, receiver)
    assert receiver.got[0][1] == "n000", "the list was held and put in order"
    assert sorted(name for _, name, _ in receiver.got) == ["marker", *(f"n{i:03}" for i in range(100))]
    assert receiver.changes is not None
    assert await eventually(lambda: receiver.changes.position == str(kube.version))
    await receiver.stop()


async def test_a_slow_pipeline_holds_the_stream_back(kube: FakeKube, client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES", 500)
    receiver = Receiver(client)
    receiver.start()
    await eventually(lambda: kube.watching == 1)
    receiver.delay = 3600.0
    for i in range(50):
        kube.put(CONFIGMAPS, note(f"n{i}"))
    assert receiver.changes is not None
    for _ in range(3):  # answered after the changes were sent on the same loop
        await client.list_all(CONFIGMAPS)
    assert 0 < receiver.changes._bytes < 1000 and not receiver.got
    await receiver.stop(0)
    receiver.delay = 0.0
    receiver.start()
    await eventually(lambda: len(receiver.got) == 50)
    await receiver.stop()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_stop_finishes_the_batch_under_way_and_leaves_the_rest_to_the_position(
    kube: FakeKube, client: ApiClient, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(module, "BATCH_RECORDS", 5)
    receiver = Receiver(client)
    receiver.start(kept=kept)
    await eventually(lambda: kube.watching == 1)
    receiver.delay = 0.2
    for i in range(20):
        kube.put(CONFIGMAPS, note(f"n{i}"))
    assert receiver.changes is not None
    await eventually(lambda: receiver.changes is not None and receiver.changes._read == str(kube.version))
    await receiver.stop()
    assert 0 < len(receiver.got) < 20 if kept else len(receiver.got) == 20
    receiver.delay = 0.0
    receiver.start()
    await eventually(lambda: len(receiver.got) >= 20)
    await receiver.stop()
    assert [name for _, name, _ in receiver.got] == [f"n{i}" for i in range(20)]


async def test_a_position_that_cannot_be_read_or_kept(kube: FakeKube, client: ApiClient) -> None:
    kube.put(CONFIGMAPS, note("one"))
    receiver = Receiver(client)
    receiver.kept = b"{broken"

    async def fail(value: bytes) -> None:
        raise OSError(28, "No space left on device")

    receiver.save = fail  # type: ignore[method-assign]
    receiver.start()
    await eventually(lambda: [name for _, name, _ in receiver.got] == ["one"])
    assert await eventually(lambda: [s for s in receiver.statuses if s and "No space left" in s])
    kube.put(CONFIGMAPS, note("two"))
    await eventually(lambda: len(receiver.got) == 2)
    await receiver.stop()


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("2026-01-02T03:04:05Z", 1767323045_000000000),
        ("2026-01-02T03:04:05.123456Z", 1767323045_123456000),
        ("2026-01-02T04:04:05+01:00", 1767323045_000000000),
        (None, None),
        ("", None),
        ("yesterday, about noon", None),
        (5, None),
        ("2026-01-02T03:04:05", None),
    ],
)
def test_times(text: Any, wanted: int | None) -> None:
    assert unix_nanos(text) == wanted
    assert unix_seconds(text) == (None if wanted is None else wanted / 1e9)
