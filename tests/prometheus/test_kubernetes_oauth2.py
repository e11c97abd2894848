"""kubernetes_sd_configs with api_server and oauth2: the token is fetched, used, and its session closed with the client."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest
from aiohttp import web

from kofagent.kubernetes import client as client_module
from kofagent.kubernetes.errors import NoCredentials
from kofagent.kubernetes.resources import PODS
from kofagent.prometheus.discovery.config import KubernetesSdConfig
from kofagent.prometheus.discovery.kubernetes.connect import connector
from tests.support.components import FakeHost
from tests.support.fake_kube import FakeKube, pod


async def test_a_token_and_no_session_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = asyncio.Event()

    async def token(request: web.Request) -> web.Response:
        if hang.is_set():
            await asyncio.sleep(60)
        return web.json_response({"access_token": "given", "token_type": "bearer", "expires_in": 3600})

    async with FakeKube("given") as kube:
        kube.tokens = {"given"}
        kube.put(PODS, pod("default", "a"))
        app = web.Application()
        app.router.add_post("/token", token)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        options: dict[str, Any] = {
            "role": "pod",
            "api_server": kube.url,
            "oauth2": {"client_id": "id", "client_secret": "s", "token_url": f"http://127.0.0.1:{runner.addresses[0][1]}/token"},
        }
        connect = connector(KubernetesSdConfig.model_validate(options), FakeHost(), "agent")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            client = connect()
            await client.start()
            assert len(await client.list_all(PODS)) == 1
            await client.stop()
            del client
            gc.collect()
            await asyncio.sleep(0)
        assert [str(w.message) for w in said if issubclass(w.category, ResourceWarning)] == []
        monkeypatch.setattr(client_module, "REQUEST_TIMEOUT", 0.1)
        hang.set()
        # other components than those that shared the first: a new client, with credentials asked for anew
        client = connector(KubernetesSdConfig.model_validate(options), FakeHost(), "agent")()
        await client.start()
        with pytest.raises(NoCredentials, match=r"no credentials within 0\.1 s"):
            async for _ in client.watch(PODS, version="1"):
                pass
        await client.stop()
        await runner.cleanup()
