"""`httpcheck` that an annotation of a pod starts: it asks the pod, and nobody that the pod sends it to."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from kofagent.component.observing import Endpoint
from kofagent.receivers.receiver_creator.hints import PREFIX
from tests.receivers.httpcheck.support import points, serving
from tests.receivers.receiver_creator.test_creator import World

CHECK = "{initial_delay: 0s, targets: [{endpoint: 'http://`endpoint`/'}]}"


def annotated(target: str) -> Endpoint:
    said = {f"{PREFIX}.metrics/enabled": "true", f"{PREFIX}.metrics/scraper": "http_check", f"{PREFIX}.metrics/config": CHECK}
    pod = {"uid": "u1", "namespace": "shop", "name": "web", "labels": {}, "annotations": said}
    return Endpoint(
        "observer/u1", "port", target, {"name": "web", "port": int(target.rpartition(":")[2]), "transport": "TCP", "pod": pod}
    )


async def test_a_redirect_of_the_pod_to_another_server_is_not_followed() -> None:
    asked: list[str] = []

    async def inside(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="secret of the cloud")

    async with serving(inside) as other:

        async def answer(request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(f"{other}/metadata" if request.path == "/away" else "/away")

        async with serving(answer) as url:
            target = url.removeprefix("http://")
            async with World({}, discovery={"enabled": True}) as world:
                world.observer.set(annotated(target))
                await world.metrics.wait_for(lambda s: s.batches)
            assert asked == []
            found = points(world.metrics)
            [error] = found["error"]
            assert error.attributes["http.url"] == f"http://{target}/"
            assert "another server" in error.attributes["error.message"]

            by_rule: dict[str, Any] = {"initial_delay": "0s", "targets": [{"endpoint": "http://`endpoint`/"}]}
            async with World({"httpcheck": {"rule": 'type == "port"', "config": by_rule}}) as world:
                world.observer.set(annotated(target))
                await world.metrics.wait_for(lambda s: s.batches)
            assert asked == ["/metadata"], "what the configuration asks for goes where it is sent"
