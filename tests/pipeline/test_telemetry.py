"""The agent's own log and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from kofagent.component.protocols import StartError
from kofagent.config.model import OtlpReader, TelemetryConfig, TelemetryLogs
from kofagent.memory.budget import Budget
from kofagent.memory.memo import Memo
from kofagent.pipeline.own_log import LineFormatter
from kofagent.pipeline.push import grpc_block
from kofagent.pipeline.telemetry import OwnTelemetry
from kofagent.telemetry.ledger import Ledger
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make_context

RESOURCE = {"service.name": "kofagent", "service.version": "1.2.3", "service.instance.id": "abc"}
NO_METRICS = {"level": "none"}


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.level, logging.getLogger("kofagent").level, list(root.handlers))
    yield
    assert (root.level, logging.getLogger("kofagent").level, list(root.handlers)) == before


def own(options: dict[str, Any], ledger: Ledger | None = None) -> OwnTelemetry:
    host = FakeHost()
    host.ledger, host.resource = ledger or Ledger(), RESOURCE
    return OwnTelemetry(TelemetryConfig.model_validate(options), make_context("service", "telemetry", host))


def pull(**prometheus: Any) -> dict[str, Any]:
    return {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": 0, **prometheus}}}}]}}


async def fetch(telemetry: OwnTelemetry, **headers: str) -> tuple[Any, bytes]:
    host, port = telemetry.addresses[0]
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(f"http://{host}:{port}/metrics", headers={"Accept-Encoding": "identity", **headers}) as answer,
    ):
        return answer, await answer.read()


async def test_the_page_has_the_ledger_and_the_process() -> None:
    ledger = Ledger()
    ledger.receiver("otlp", Signal.LOGS, "http").accepted(7)
    ledger.histogram("otelcol_processor_batch_batch_send_size", "x", processor="batch")(30)
    ledger.gauge("otelcol_exporter_queue_size", 'a "quoted"\nhelp \\', lambda: 3, exporter='we"ird\\\n')
    telemetry = own(pull(), ledger)
    await telemetry.start()
    try:
        answer, body = await fetch(telemetry)
    finally:
        await telemetry.stop()
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    values = {
        (s.name, tuple(sorted(s.labels.items()))): s.value for f in text_string_to_metric_families(body.decode()) for s in f.samples
    }
    assert values["otelcol_receiver_accepted_log_records_total", (("receiver", "otlp"), ("transport", "http"))] == 7
    assert values["otelcol_exporter_queue_size", (("exporter", 'we"ird\\\n'),)] == 3
    assert values["otelcol_processor_batch_batch_send_size_bucket", (("le", "50"), ("processor", "batch"))] == 1
    assert values["target_info", (("service_instance_id", "abc"), ("service_name", "kofagent"), ("service_version", "1.2.3"))] == 1
    assert values["otelcol_process_memory_rss_bytes", ()] > 5e6
    assert values["otelcol_process_cpu_seconds_total", ()] > 0
    assert values["otelcol_process_uptime_seconds_total", ()] >= 0
    assert values["otelcol_process_runtime_heap_alloc_bytes", ()] > 1e6
    assert not [name for name, _ in values if name.endswith("_created")]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
async def test_promtool_reads_the_page() -> None:
    ledger = Ledger()
    ledger.exporter("otlphttp/logs", Signal.LOGS).sent(1)
    telemetry = own(pull(), ledger)
    await telemetry.start()
    _, body = await fetch(telemetry)
    await telemetry.stop()
    done = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=60, check=False)
    assert b"error" not in done.stderr.lower(), done.stderr


async def test_gzip_only_if_asked_for() -> None:
    telemetry = own(pull())
    await telemetry.start()
    try:
        answer, body = await fetch(telemetry, **{"Accept-Encoding": "gzip"})
        assert answer.headers["Content-Encoding"] == "gzip"
        assert b"otelcol_process_uptime" in gzip.decompress(body)
        answer, body = await fetch(telemetry, **{"Accept-Encoding": "gzip;q=0, identity"})
        assert "Content-Encoding" not in answer.headers
        host, port = telemetry.addresses[0]
        async with aiohttp.ClientSession() as session:
            assert (await session.get(f"http://{host}:{port}/")).status == 404
            assert (await session.post(f"http://{host}:{port}/metrics")).status == 405
    finally:
        await telemetry.stop()


async def test_constant_labels_and_no_type_suffix() -> None:
    ledger = Ledger()
    ledger.exporter("e", Signal.TRACES).sent(2)
    telemetry = own(
        pull(
            with_resource_constant_labels={"included": ["service.*"], "excluded": ["service.version"]},
            without_type_suffix=True,
            without_target_info=True,
        ),
        ledger,
    )
    await telemetry.start()
    _, body = await fetch(telemetry)
    await telemetry.stop()
    assert b'otelcol_exporter_sent_spans{service_name="kofagent",service_instance_id="abc",exporter="e"} 2.0\n' in body
    assert b"target_info" not in body


async def test_the_old_address_and_level_none() -> None:
    telemetry = own({"metrics": {"address": "127.0.0.1:0"}})
    await telemetry.start()
    assert (await fetch(telemetry))[0].status == 200
    await telemetry.stop()
    await telemetry.stop()
    silent = own({"metrics": NO_METRICS})
    await silent.start()
    assert silent.addresses == []
    await silent.stop()


async def test_an_address_beside_a_reader_of_the_same_is_one_page() -> None:
    from kofagent.pipeline.telemetry import _readers

    def pages(address: str) -> list[tuple[str, int]]:
        metrics = {"address": address, **pull(host="127.0.0.1", port=8888)["metrics"]}
        return [(page.host, page.port) for page in _readers(TelemetryConfig.model_validate({"metrics": metrics}).metrics)[0]]

    assert pages("127.0.0.1:8888") == [("127.0.0.1", 8888)]
    assert pages("127.0.0.2:8888") == [("127.0.0.2", 8888), ("127.0.0.1", 8888)]


async def test_the_default_is_localhost_8888() -> None:
    from kofagent.pipeline.telemetry import _readers

    pages, pushes = _readers(TelemetryConfig().metrics)
    assert [(p.host, p.port) for p in pages] == [("localhost", 8888)]
    assert not pushes


async def test_a_port_in_use_is_one_clear_error() -> None:
    first = own(pull())
    await first.start()
    port = first.addresses[0][1]
    second = own(pull(port=port))
    with pytest.raises(StartError, match=f"127.0.0.1:{port}.*another port"):
        await second.start()
    await second.stop()
    await first.stop()


async def test_a_restart_with_the_same_ledger_serves_again() -> None:
    ledger = Ledger()
    for _ in range(2):
        telemetry = own(pull(), ledger)
        await telemetry.start()
        assert (await fetch(telemetry))[0].status == 200
        await telemetry.stop()


async def test_periodic_otlp_over_http() -> None:
    got: list[tuple[str, dict[str, str], bytes]] = []
    statuses = [500]

    async def answer(request: web.BaseRequest) -> web.Response:
        got.append((request.path, dict(request.headers), await request.read()))
        return web.Response(status=statuses.pop() if statuses else 200)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ledger = Ledger()
    ledger.exporter("e", Signal.LOGS).sent(5)
    observe = ledger.histogram("sizes", "x", (1.0, 5.0))
    for value in (0.5, 3, 3, 99):
        observe(value)
    port = runner.addresses[0][1]
    telemetry = own(
        {
            "metrics": {
                "readers": [
                    {
                        "periodic": {
                            "interval": 20,
                            "exporter": {
                                "otlp": {
                                    "protocol": "http/protobuf",
                                    "endpoint": f"http://127.0.0.1:{port}",
                                    "headers": [{"name": "Authorization", "value": "Bearer s3cret"}],
                                }
                            },
                        }
                    }
                ]
            }
        },
        ledger,
    )
    await telemetry.start()
    await eventually(lambda: len(got) > 2)
    await telemetry.stop()
    await runner.cleanup()
    path, headers, body = got[-1]
    assert path == "/v1/metrics"
    assert headers["Authorization"] == "Bearer s3cret"
    (group,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
    assert {a.key: a.value.string_value for a in group.resource.attributes} == RESOURCE
    metrics = {m.name: m for m in group.scope_metrics[0].metrics}
    sent = metrics["otelcol_exporter_sent_log_records"].sum
    assert (sent.is_monotonic, sent.aggregation_temporality, sent.data_points[0].as_double) == (True, 2, 5)
    sizes = metrics["sizes"].histogram.data_points[0]
    assert (list(sizes.explicit_bounds), list(sizes.bucket_counts), sizes.count, sizes.sum) == ([1, 5], [1, 2, 1], 4, 105.5)
    assert metrics["otelcol_process_memory_rss_bytes"].gauge.data_points[0].as_double > 0


@pytest.mark.parametrize(
    "options, insecure",
    [
        ({}, True),
        ({"insecure": False}, False),
        ({"certificate": "ca.pem"}, False),
        ({"tls": {"ca_file": "ca.pem"}}, False),
        ({"tls": {"ca_file": "ca.pem", "insecure": True}}, True),
    ],
)
def test_plain_text_unless_files_for_tls_are_named(options: dict[str, Any], insecure: bool) -> None:
    reader = OtlpReader.model_validate({"protocol": "grpc", "endpoint": "collector:4317", **options})
    assert grpc_block(reader).tls.insecure is insecure


async def test_the_last_totals_are_pushed_at_the_stop(capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger()
    reader = {"periodic": {"interval": 3_600_000, "exporter": {"console": {}}}}
    telemetry = own({"metrics": {"readers": [reader]}}, ledger)
    await telemetry.start()
    ledger.exporter("e", Signal.LOGS).sent(5)
    await telemetry.stop()
    assert 'otelcol_exporter_sent_log_records_total{exporter="e"} 5.0' in capsys.readouterr().out


async def test_a_backend_that_does_not_answer_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    asked, answers = asyncio.Semaphore(0), asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.release()
        await answers.wait()
        return web.Response()

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    otlp = {"protocol": "http/protobuf", "endpoint": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    telemetry = own({"metrics": {"readers": [{"periodic": {"interval": 10, "timeout": 20, "exporter": {"otlp": otlp}}}]}})
    await telemetry.start()
    for _ in range(3):
        await asked.acquire()
    answers.set()
    await telemetry.stop()
    await runner.cleanup()
    said = [line for line in caplog.messages if "could not be sent" in line]
    assert said == ["own metrics could not be sent, trying again every interval: no answer in time"]


async def test_periodic_otlp_over_grpc() -> None:
    got: list[bytes] = []

    async def export(request: bytes, context: Any) -> bytes:
        got.append(request)
        return b""

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "opentelemetry.proto.collector.metrics.v1.MetricsService", {"Export": grpc.unary_unary_rpc_method_handler(export)}
            ),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    telemetry = own(
        {
            "metrics": {
                "readers": [
                    {
                        "periodic": {
                            "interval": 20,
                            "exporter": {"otlp": {"protocol": "grpc", "endpoint": f"http://127.0.0.1:{port}"}},
                        }
                    }
                ]
            }
        }
    )
    await telemetry.start()
    await eventually(lambda: got)
    await telemetry.stop()
    await server.stop(None)
    assert ExportMetricsServiceRequest.FromString(got[0]).resource_metrics


# --- the log


async def test_console_lines(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = own({"metrics": NO_METRICS, "logs": {"initial_fields": {"role": "node"}}})
    await telemetry.start()
    log = logging.getLogger("kofagent.exporters.otlphttp/logs")
    log.debug("not this")
    logging.getLogger("aiohttp").info("nor this, of a library")
    log.warning("two\nlines of %s", "text")
    try:
        raise ValueError("deep")
    except ValueError:
        log.exception("failed")
    await telemetry.stop()
    log.error("after the end")
    lines = [line for line in capsys.readouterr().err.splitlines() if "after the end" not in line]
    assert len(lines) == 2
    assert lines[0].split(" ", 1)[1] == 'warn exporters.otlphttp/logs: two\\nlines of text {"role": "node"}'
    assert lines[0][10] == "T"
    assert lines[0].split(" ", 1)[0].endswith("Z")
    assert "Traceback" in lines[1]
    assert "ValueError: deep" in lines[1]


async def test_json_lines_into_a_file_and_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.log"
    telemetry = own(
        {
            "metrics": NO_METRICS,
            "logs": {
                "level": "debug",
                "encoding": "json",
                "output_paths": [str(path), "stdout"],
                "initial_fields": {"n": 1},
                "disable_stacktrace": True,
            },
        }
    )
    await telemetry.start()
    log = logging.getLogger("kofagent.x")
    log.debug("seen %d", 1)
    try:
        raise KeyError("k")
    except KeyError:
        log.exception("broken")
    logging.getLogger("somelib").info("chatter")
    logging.getLogger("somelib").warning("trouble")
    await telemetry.stop()
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(e["level"], e["logger"], e["msg"], e["n"]) for e in events] == [
        ("debug", "x", "seen 1", 1),
        ("error", "x", "broken", 1),
        ("warn", "somelib", "trouble", 1),
    ]
    assert events[1]["stacktrace"] == "KeyError: 'k'"
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == events


async def test_a_repeated_message_is_sampled(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = own({"metrics": NO_METRICS, "logs": {"sampling": {"initial": 3, "thereafter": 10, "tick": "1h"}}})
    await telemetry.start()
    for i in range(33):
        logging.getLogger("kofagent.x").warning("again %d", i)
    logging.getLogger("kofagent.x").warning("another")
    await telemetry.stop()
    lines = capsys.readouterr().err.splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["0", "1", "2", "12", "22", "32", "another"]


async def test_no_sampling(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry = own({"metrics": NO_METRICS, "logs": {"sampling": {"enabled": False}, "level": "ERROR"}})
    await telemetry.start()
    for _ in range(30):
        logging.getLogger("kofagent.x").error("again")
        logging.getLogger("kofagent.x").warning("not")
        logging.getLogger("aiohttp").warning("not")
    await telemetry.stop()
    assert len(capsys.readouterr().err.splitlines()) == 30


def test_a_wrong_log_call_does_not_lose_the_event() -> None:
    record = logging.LogRecord("kofagent.x", logging.WARNING, "f.py", 1, "%d of %d", (1,), None)
    assert LineFormatter(TelemetryLogs()).format(record).endswith("warn x: %d of %d")


async def test_an_output_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    telemetry = own({"metrics": NO_METRICS, "logs": {"output_paths": ["stderr", str(tmp_path / "no" / "such" / "f.log")]}})
    with pytest.raises(StartError, match=r"output_paths.*No such file"):
        await telemetry.start()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is on Linux only")
async def test_what_cannot_be_written_is_said_once_a_minute_on_the_error_outputs(tmp_path: Path) -> None:
    errors, good = tmp_path / "errors.log", tmp_path / "own.log"
    logs = {"output_paths": ["/dev/full", str(good)], "error_output_paths": [str(errors)]}
    telemetry = own({"metrics": NO_METRICS, "logs": logs})
    await telemetry.start()
    for i in range(5):
        logging.getLogger("kofagent.x").warning("event %d", i)
    await telemetry.stop()
    assert len(good.read_text().splitlines()) == 5, "the other outputs go on"
    (line,) = errors.read_text().splitlines()
    assert line.split(" ", 1)[1] == "error log: cannot write to /dev/full: No space left on device; events are lost"


async def test_a_stream_that_cannot_be_written_is_said_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = tmp_path / "errors.log"
    telemetry = own({"metrics": NO_METRICS, "logs": {"output_paths": ["stdout"], "error_output_paths": [str(errors)]}})
    await telemetry.start()
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        logging.getLogger("kofagent.x").warning("lost")
        with contextlib.suppress(OSError):
            full.close()
    await telemetry.stop()
    assert "cannot write to stdout: No space left on device" in errors.read_text()


async def test_a_file_says_it_when_it_is_full_not_at_the_end(tmp_path: Path) -> None:
    errors = tmp_path / "errors.log"
    telemetry = own({"metrics": NO_METRICS, "logs": {"output_paths": ["/dev/full"], "error_output_paths": [str(errors)]}})
    await telemetry.start()
    logging.getLogger("kofagent.x").warning("lost")
    assert "cannot write to /dev/full" in errors.read_text()
    await telemetry.stop()


async def test_an_error_output_that_cannot_be_opened(tmp_path: Path) -> None:
    telemetry = own({"metrics": NO_METRICS, "logs": {"error_output_paths": [str(tmp_path / "no" / "f.log")]}})
    with pytest.raises(StartError, match=r"telemetry\.logs\.error_output_paths: cannot write .*no/f.log: No such file"):
        await telemetry.start()


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, kofagent.pipeline.telemetry; "
        "print([m for m in ('grpc', 'psutil', 'opentelemetry', 'botocore') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


async def test_start_and_stop_without_start() -> None:
    await asyncio.wait_for(own({}).stop(), 5)


async def test_the_page_has_the_account_of_memory() -> None:
    memo: Memo[int, bytes] = Memo("test.page", entries=4, size=10_000)
    for i in range(6):
        memo.counts.lookups += 2
        memo.find(i)
        memo[i] = b"x"
    budget = Budget("test_budget", 1000)
    budget.reserve(10)
    telemetry = own(pull())
    await telemetry.start()
    try:
        _, body = await fetch(telemetry)
    finally:
        await telemetry.stop()
    values = {
        (s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(body.decode()) for s in f.samples if s.labels
    }
    assert values["kofagent_memo_entries", "test.page"] == 4
    assert values["kofagent_memo_bytes", "test.page"] == memo.size > 300
    assert values["kofagent_memo_hits_total", "test.page"] == 6
    assert values["kofagent_memo_misses_total", "test.page"] == 6
    assert values["kofagent_memo_evictions_total", "test.page"] == 2
    assert values["kofagent_memory_bytes", "memos"] >= memo.size
    assert values["kofagent_memory_bytes", "test_budget"] == 10
    assert values["kofagent_memory_limit_bytes", "test_budget"] == 1000
    assert values["kofagent_memory_bytes", "process"] > 5e6
    assert values["kofagent_memory_limit_bytes", "process"] > values["kofagent_memory_bytes", "process"]


@pytest.mark.parametrize("encoding", ["console", "json"])
@pytest.mark.parametrize("multiline", [False, True])
def test_no_control_character_reaches_the_terminal_of_who_reads_the_log(encoding: str, multiline: bool) -> None:
    every = "".join(map(chr, [*range(32), 127, *range(128, 160), 0x2028, 0x2029]))
    record = logging.makeLogRecord({"name": "x", "msg": "a%sb\x1b[2J", "args": (every,), "levelno": 30, "multiline": multiline})
    line = LineFormatter(TelemetryLogs.model_validate({"encoding": encoding})).format(record)
    assert not [char for char in line if char in every and char not in "\t\n"]
    assert line.count("\n") == (multiline and encoding == "console")
    assert ("\\x1b[2J" if encoding == "console" else "\\u001b[2J") in line
    if encoding == "json":
        assert json.loads(line)["msg"] == f"a{every}b\x1b[2J"


def test_urls_in_the_log_are_without_logins_and_tokens() -> None:
    record = logging.makeLogRecord({"name": "x", "msg": "at %s", "args": ("http://u:hunter2@h/?token=hunter3",), "levelno": 30})
    assert LineFormatter(TelemetryLogs()).format(record).endswith("x: at http://u:***@h/?token=***")


async def test_the_page_is_not_ready_before_the_pipelines_are() -> None:
    telemetry = own(pull())
    telemetry.ready = False
    await telemetry.start()
    try:
        host, port = telemetry.addresses[0]
        async with aiohttp.ClientSession() as session:
            for ready, status in ((False, 503), (True, 200)):
                telemetry.ready = ready
                async with session.get(f"http://{host}:{port}/metrics") as answer:
                    assert answer.status == status
    finally:
        await telemetry.stop()
