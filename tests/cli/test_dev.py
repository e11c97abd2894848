"""`kofagent dev`: this machine and local OTLP into the embedded region, shown line by line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.servers import free_port, get_json, wait_until


def post(url: str, payload: object) -> int:
    request = urllib.request.Request(url, json.dumps(payload).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        status: int = answer.status
        return status


@pytest.mark.slow
def test_dev_collects_shows_and_stops(tmp_path: Path) -> None:
    grpc, http, region = free_port(), free_port(), free_port()
    log = tmp_path / "app.log"
    log.write_text("first line\n")
    own = tmp_path / "own.yaml"
    own.write_text("service: {telemetry: {metrics: {level: none}}}\nreceivers: {hostmetrics: {collection_interval: 1s}}\n")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "kofagent",
            "dev",
            "--logs",
            str(log),
            "--config",
            str(own),
            "--otlp-grpc",
            f"127.0.0.1:{grpc}",
            "--otlp-http",
            f"127.0.0.1:{http}",
            "--region",
            f"127.0.0.1:{region}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        base = f"http://127.0.0.1:{region}"
        wait_until(lambda: get_json(base + "/")["logs"]["records_taken"] == 1, what="the log line")
        with log.open("a") as file:
            file.write("second line\n")
        now = time.time_ns()
        span = {
            "traceId": "0102030405060708090a0b0c0d0e0f10",
            "spanId": "0102030405060708",
            "name": "hello",
            "startTimeUnixNano": str(now),
            "endTimeUnixNano": str(now + 1000),
        }
        service = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
        assert (
            post(
                f"http://127.0.0.1:{http}/v1/traces", {"resourceSpans": [{"resource": service, "scopeSpans": [{"spans": [span]}]}]}
            )
            == 200
        )
        wait_until(lambda: get_json(base + "/")["logs"]["records_taken"] == 2, what="the second line")
        assert get_json(base + "/api/traces", service="shop")["data"][0]["spans"][0]["operationName"] == "hello"
        found = wait_until(
            lambda: get_json(base + "/api/v1/query", query='system_memory_usage_bytes{state="used"}')["data"]["result"],
            what="host metrics",
        )
        assert float(found[0]["value"][1]) > 1_000_000
        assert process.stdout is not None
        shown = ""
        while "stored         2 (2 records)" not in shown:
            line = process.stdout.readline()
            assert line, f"it has ended: {shown}"
            shown += line
    finally:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        out = process.stdout.read()
        process.wait(timeout=20)
    assert process.returncode == 0, out
    last = out.splitlines()[-3:]
    assert last[0].startswith("logs     accepted         2   stored         2 (2 records)"), out
    assert last[2].startswith("traces   accepted         1   stored         1 (1 traces)"), out
    assert "Traceback" not in out


@pytest.mark.slow
def test_dev_says_what_to_do_when_a_port_is_taken() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option in ("--region", "--otlp-http"):
            result = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "kofagent",
                    "dev",
                    option,
                    f"127.0.0.1:{port}",
                    "--seconds",
                    "1",
                    *(["--region", "127.0.0.1:0"] if option != "--region" else []),
                ],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert result.returncode == 1
            assert str(port) in result.stderr
            assert "Traceback" not in result.stderr
