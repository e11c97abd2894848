"""The plug is pulled: a backend goes away and comes back, the agent is told to stop meanwhile, or is killed."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers
from tests.support.otlp import log_request
from tests.support.pod_logs import PodWriter
from tests.support.servers import free_port, get, wait_until

pytestmark = pytest.mark.server("victoria-logs")


def config(folder: Path, vlogs: str, metrics: int, **exporter: Any) -> Path:
    """Container logs through kof 0.3.0's shape of pipeline, checkpoints on disk."""
    out = folder / "otel.yaml"
    out.write_text(
        json.dumps(
            {
                "receivers": {
                    "filelog": {
                        "include": [f"{folder}/pods/*/*/*.log"],
                        "start_at": "beginning",
                        "storage": "file_storage",
                        "include_file_path": True,
                        "operators": [{"type": "container"}],
                        "retry_on_failure": {"enabled": True, "max_elapsed_time": 0},
                    }
                },
                "processors": {"batch": {"send_batch_size": 200}},
                "exporters": {
                    "otlphttp": {
                        "logs_endpoint": vlogs + "/insert/opentelemetry/v1/logs",
                        "tls": {"insecure": True},
                        "retry_on_failure": {"initial_interval": "200ms", "max_interval": "500ms", "max_elapsed_time": 0},
                        **exporter,
                    }
                },
                "extensions": {"file_storage": {"directory": str(folder / "state"), "create_directory": True}},
                "service": {
                    "extensions": ["file_storage"],
                    "pipelines": {"logs": {"receivers": ["filelog"], "processors": ["batch"], "exporters": ["otlphttp"]}},
                    "telemetry": {
                        "metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": metrics}}}}]}
                    },
                },
            }
        )
    )
    return out


def numbers(vlogs: str, word: str) -> Counter[int]:
    """How often each line of the writer is stored."""
    get(vlogs + "/internal/force_flush")
    query = urllib.parse.urlencode({"query": f'"{word} line"', "limit": 100_000})
    lines = get(vlogs + "/select/logsql/query?" + query)[1].decode().splitlines()
    return Counter(int(json.loads(line)["_msg"].split(" line ")[1][:6]) for line in lines)


def metric(port: int, name: str) -> float:
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


def test_a_backend_that_goes_away_loses_and_doubles_nothing(tmp_path: Path) -> None:
    store, vlogs = servers.victoria_logs(tmp_path)
    port = free_port()
    writer = PodWriter(tmp_path / "pods", "outage", 1500, rotate_every=400)
    agent = servers.kofagent(tmp_path, "run", "--config", str(config(tmp_path, vlogs, port)))
    try:
        writer.start()
        wait_until(lambda: numbers(vlogs, "outage"), what="first lines")
        store.stop()
        time.sleep(2)  # the writer goes on and rotates while nobody takes anything
        assert writer.is_alive() or writer.lines == 1500
        store.restart()
        writer.join(60)
        found = wait_until(lambda: len(n := numbers(vlogs, "outage")) == 1500 and n, what="all lines after the outage")
        assert set(found) == set(range(1500))
        # a request that was under way when the plug was pulled may be stored and unanswered; nothing else comes twice
        assert sum(found.values()) - 1500 <= 400
        assert metric(port, "kofagent_dropped_items_total") == 0
        assert "sending again" in agent.output()
    finally:
        code = agent.stop()
        store.stop()
    assert code == 0


def test_stopping_without_a_backend_is_quick_and_the_lines_come_after_the_restart(tmp_path: Path) -> None:
    store, vlogs = servers.victoria_logs(tmp_path)
    store.stop()
    port = free_port()
    writer = PodWriter(tmp_path / "pods", "later", 500, pause=0, rotate_every=10_000)
    writer.start()
    writer.join(60)
    agent = servers.kofagent(tmp_path, "run", "--config", str(config(tmp_path, vlogs, port)))
    wait_until(lambda: metric(port, "otelcol_exporter_queue_size{") > 0, what="something in the queue")
    began = time.monotonic()
    assert agent.stop() == 0, agent.output()
    assert time.monotonic() - began < 10
    store.restart()
    agent = servers.kofagent(tmp_path, "run", "--config", str(config(tmp_path, vlogs, port)))
    try:
        found = wait_until(lambda: len(n := numbers(vlogs, "later")) == 500 and n, what="all lines after the restart")
        assert sum(found.values()) == 500, "nobody had answered before, so nothing comes twice"
    finally:
        assert agent.stop() == 0
        store.stop()


def test_kill_9_repeats_at_most_what_was_under_way(tmp_path: Path) -> None:
    store, vlogs = servers.victoria_logs(tmp_path)
    port = free_port()
    # rotated and compressed also while no agent runs: several times between a kill and the next start
    writer = PodWriter(tmp_path / "pods", "killed", 5000, rotate_every=200)
    agent = servers.kofagent(tmp_path, "run", "--config", str(config(tmp_path, vlogs, port)))
    try:
        writer.start()
        for _ in range(3):
            before = len(numbers(vlogs, "killed"))
            wait_until(lambda b=before: len(numbers(vlogs, "killed")) > b, what="more lines")
            agent.kill()
            agent = servers.kofagent(tmp_path, "run", "--config", str(config(tmp_path, vlogs, port)))
        writer.join(60)
        found = wait_until(lambda: len(n := numbers(vlogs, "killed")) == 5000 and n, what="all lines")
        assert set(found) == set(range(5000))
        assert max(found.values()) <= 4
        assert metric(port, "kofagent_filelog_lost_files_total") == 0
    finally:
        agent.stop()
        store.stop()


def test_a_queue_on_disk_owns_what_it_answered_for(tmp_path: Path) -> None:
    """`sending_queue.storage`: clients are told ok while the backend is away, and neither a kill nor a stop loses their lines."""
    store, vlogs = servers.victoria_logs(tmp_path)
    store.stop()
    http, port = free_port(), free_port()
    path = config(tmp_path, vlogs, port, sending_queue={"storage": "file_storage"})
    options = json.loads(path.read_text())
    options["receivers"] = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{http}"}}}}
    options["service"]["pipelines"]["logs"]["receivers"] = ["otlp"]
    path.write_text(json.dumps(options))

    def send(first: int) -> None:
        body = log_request(*(f"durable line {number:06}" for number in range(first, first + 100)))
        request = urllib.request.Request(f"http://127.0.0.1:{http}/v1/logs", body, {"Content-Type": "application/x-protobuf"})
        assert urllib.request.urlopen(request, timeout=10).status == 200

    agent = servers.kofagent(tmp_path, "run", "--config", str(path))
    try:
        send(0)
        send(100)
        agent.kill()
        agent = servers.kofagent(tmp_path, "run", "--config", str(path))
        assert metric(port, "otelcol_exporter_queue_size{") == 2
        send(200)
        assert agent.stop() == 0, agent.output()
        store.restart()
        agent = servers.kofagent(tmp_path, "run", "--config", str(path))
        found = wait_until(lambda: len(n := numbers(vlogs, "durable")) == 300 and n, what="all lines after the restarts")
        assert sum(found.values()) == 300
        wait_until(lambda: metric(port, "otelcol_exporter_queue_size{") == 0, what="an empty queue")
        assert metric(port, "kofagent_dropped_items_total") == 0
    finally:
        agent.stop()
        store.stop()
