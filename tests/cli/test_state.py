"""`kofagent run --values`: queues and places of KOF's own pipelines are on disk, where there is a directory for them."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kofagent.cli import state
from kofagent.cli.sources import load
from kofagent.cli.state import State, find_state
from kofagent.pipeline.service import Service
from tests.support.components import eventually
from tests.support.servers import free_port


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    while state._locked:
        os.close(state._locked.popitem()[1])


@pytest.fixture
def blocked(tmp_path: Path) -> str:
    """No directory can be made here, whoever tries."""
    (tmp_path / "file").write_text("")
    return str(tmp_path / "file")


def arguments(tmp_path: Path, values: dict[str, Any], where: str | None, role: str = "node", generation: str | None = None) -> Any:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"kof": {"basic_auth": False}, **values}))
    options = {"collector": None, "part": None, "generation": generation, "config": [], "state": where}
    return argparse.Namespace(values=[str(file)], role=role, **options)


@pytest.mark.parametrize("generation", ["0.1.1", "0.3.0"])
def test_every_queue_and_place_of_the_default_pipelines_is_on_disk(tmp_path: Path, generation: str) -> None:
    # 0.1.1 has an exporter for traces only where they have an endpoint
    values = {"kof": {"basic_auth": False, "traces": {"endpoint": "http://traces"}}}
    config = load(arguments(tmp_path, values, str(tmp_path / "state"), generation=generation))
    used = {id for pipeline in config.pipelines.values() for id in pipeline.exporters} - {"debug"}
    assert len(used) == 3
    assert {config.components["exporters"][id].sending_queue.storage for id in used} == {"file_storage/kofagent"}  # type: ignore[attr-defined]
    assert {p.split("/")[0] for p in config.pipelines} == {"logs", "metrics", "traces"}
    assert config.components["receivers"]["filelog/kube" if generation == "0.3.0" else "filelog"].storage == "file_storage/kofagent"  # type: ignore[attr-defined]
    assert config.components["extensions"]["file_storage/kofagent"].directory == str(tmp_path / "state" / "node")  # type: ignore[attr-defined]
    assert config.extensions[-1] == "file_storage/kofagent"
    assert "lost" not in str(config.warnings)
    events = load(arguments(tmp_path, {}, str(tmp_path / "state"), role="k8scluster", generation=generation))
    events_of = "k8s_events" if generation == "0.3.0" else "k8sobjects"
    assert events.components["receivers"][events_of].storage == "file_storage/kofagent"  # type: ignore[attr-defined]
    assert events.components["extensions"]["file_storage/kofagent"].directory == str(tmp_path / "state" / "k8scluster")  # type: ignore[attr-defined]


def test_what_the_user_wrote_stays(tmp_path: Path) -> None:
    node = {
        "receivers": {"filelog/kube": {"storage": None}},
        "exporters": {
            "otlphttp/logs": {"sending_queue": {"queue_size": 7}},
            "prometheusremotewrite": {"remote_write_queue": {"queue_size": 9}},
        },
    }
    config = load(arguments(tmp_path, {"collectors": {"node": node}}, str(tmp_path / "state")))
    exporters = config.components["exporters"]
    assert exporters["otlphttp/logs"].sending_queue.storage is None  # type: ignore[attr-defined]
    assert exporters["prometheusremotewrite"].sending_queue is None  # type: ignore[attr-defined]
    assert exporters["otlphttp/traces"].sending_queue.storage == "file_storage/kofagent"  # type: ignore[attr-defined]


def test_without_a_directory_the_agent_says_once_what_is_lost_and_none_says_nothing(tmp_path: Path, blocked: str) -> None:
    config = load(arguments(tmp_path, {}, blocked))
    (warning,) = [one for one in config.warnings if "directory" in one.message]
    assert "what waits for a backend is lost" in str(warning)
    assert "logs and events that come while no agent runs are not read" in str(warning)
    assert f"{blocked}/node cannot be used: Not a directory" in str(warning)
    assert "--state" in str(warning)
    assert config.components["exporters"]["otlphttp/logs"].sending_queue.storage is None  # type: ignore[attr-defined]
    assert "directory" not in str(load(arguments(tmp_path, {}, "none")).warnings)


def test_the_first_directory_that_works_is_taken_and_another_agents_is_not(
    tmp_path: Path, blocked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "SYSTEM", blocked)
    home = {"HOME": str(tmp_path / "home")}
    of_home = str(tmp_path / "home/.local/state/kofagent/node")
    assert find_state(None, "node", home) == State(of_home)
    assert find_state(None, "node", home) == State(of_home)  # a reload
    assert find_state(None, "node", {**home, "XDG_STATE_HOME": str(tmp_path / "xdg")}).directory == str(
        tmp_path / "xdg/kofagent/node"
    )
    assert find_state(None, "node", {**home, "STATE_DIRECTORY": f"{tmp_path}/unit:/x"}).directory == str(tmp_path / "unit/node")
    assert find_state(None, "node", {"KOFAGENT_STATE": str(tmp_path / "env"), **home}).directory == str(tmp_path / "env/node")
    assert find_state("none", "node", home) == State("")
    assert find_state(None, "node", {}) == State("", f"{blocked}/node cannot be used: Not a directory")
    other = tmp_path / "other" / "node"
    other.mkdir(parents=True)
    with open(other / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert find_state(str(tmp_path / "other"), "node", {}) == State("", f"{other} is used by another agent")
    assert find_state(str(tmp_path / "other"), "node", {}) == State(str(other))


class Backend:
    """Answers as told, and keeps what it took."""

    def __init__(self) -> None:
        self.status = 404
        self.bodies: list[bytes] = []
        self.asked = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked += 1
        if self.status == 200:
            self.bodies.append(body)
        return web.Response(status=self.status)


async def test_what_a_backend_answers_with_404_waits_on_disk_over_a_restart(tmp_path: Path) -> None:
    backend, port, otlp = Backend(), free_port(), free_port()
    app = web.Application()
    app.router.add_post("/{path:.*}", backend.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    pipeline = {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlphttp/logs"]}
    node = {
        "receivers": {
            "otlp": {"protocols": {"grpc": None, "http": {"endpoint": f"127.0.0.1:{otlp}"}}},
            "filelog/kube": None,
            "prometheus": None,
        },
        "processors": {"k8sattributes": None},
        "exporters": {"otlphttp/logs": {"compression": "none"}},
        "service": {"pipelines": {"logs": pipeline, "metrics": None, "traces": None}, "telemetry": {"metrics": {"level": "none"}}},
    }
    values = {"kof": {"basic_auth": False, "logs": {"endpoint": f"http://127.0.0.1:{port}"}}, "collectors": {"node": node}}
    given = arguments(tmp_path, values, str(tmp_path / "state"))
    record = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "kept"}}]}]}]}
    try:
        service = Service(load(given))
        await service.start()
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"http://127.0.0.1:{otlp}/v1/logs", json=record) as answer,
        ):
            assert answer.status == 200  # it is on disk
        await eventually(lambda: backend.asked)
        await service.stop()
        assert not backend.bodies
        backend.status = 200
        service = Service(load(given))
        await service.start()
        await eventually(lambda: backend.bodies)
        await service.stop()
    finally:
        await runner.cleanup()
    assert len(backend.bodies) == 1
    assert b"kept" in backend.bodies[0]
