"""A scripted API server and a started client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kofagent.kubernetes.client import ApiClient
from tests.support.fake_kube import FakeKube


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        yield server


@pytest.fixture
async def client(kube: FakeKube) -> AsyncIterator[ApiClient]:
    made = kube.client()
    await made.start()
    yield made
    await stop_all(made)
    await made.stop()


async def stop_all(client: ApiClient) -> None:
    """Stops every informer of a client."""
    for informer in list(client.informers.values()):
        for subscription in list(informer._subscriptions):
            await subscription.stop()
