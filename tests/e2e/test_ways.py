"""The six ways of storing KOF data: each file of configs/ run as a user runs it, against real servers, read back by queries.

Every file is used as it is, with its host names replaced by loopback ones; configs/no-cluster.yaml is laid over it, then what is
particular to a test machine (where the logs are, which CA to trust).
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import servers
from tests.support.pod_logs import UID, PodWriter
from tests.support.servers import Server, free_port, get, get_json, wait_until

CONFIGS = Path(__file__).parents[2] / "configs"
USER, PASSWORD = "kof", "s3cret-of-the-region"
LINES = 600
LOGIN = {"STORAGE_VMUSER_CREDENTIALS_USERNAME": USER, "STORAGE_VMUSER_CREDENTIALS_PASSWORD": PASSWORD}

pytestmark = [
    pytest.mark.server(name)
    for name in (
        "victoria-metrics",
        "victoria-logs",
        "jaeger",
        "vmauth",
        "nginx",
        "prometheus-node-exporter",
        "telemetrygen",
        "openssl",
    )
]


@dataclass
class Region:
    """Real stores and the doors in front of them."""

    folder: Path
    vm: str
    vlogs: str
    jaeger_otlp: str
    jaeger_query: str
    vmauth: str
    """TLS and basic auth, vmauth's paths."""
    jaeger_tls: str
    """TLS, Jaeger below /collector."""
    plain: str
    """Plain HTTP with basic auth: the services of a regional cluster."""
    mesh: str
    """Plain HTTP without auth: what Istio's mesh shows."""
    target: str
    """node-exporter, host:port."""


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    folder = tmp_path_factory.mktemp("region")
    started: list[Server] = []

    def door(name: str, body: str, *, tls: bool = False) -> str:
        home = folder / name
        home.mkdir()
        server, url = servers.nginx(home, body, tls=tls)
        started.append(server)
        return url

    try:
        vm_server, vm = servers.victoria_metrics(folder)
        logs_server, vlogs = servers.victoria_logs(folder)
        jaeger_server, otlp, query, _ = servers.jaeger(folder)
        target_server, target = servers.node_exporter(folder)
        started += [vm_server, logs_server, jaeger_server, target_server]
        auth_server, auth = servers.vmauth(
            folder,
            [
                {"src_paths": ["/vm/insert/.*"], "url_prefix": vm, "drop_src_path_prefix_parts": 4},
                {"src_paths": ["/vls/.*"], "url_prefix": vlogs, "drop_src_path_prefix_parts": 1},
            ],
            USER,
            PASSWORD,
        )
        started.append(auth_server)
        passwords = folder / "htpasswd"
        passwords.write_text(
            subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], capture_output=True, text=True, check=True).stdout
        )
        stores = f"""
            location ~ ^/insert/[0-9:]+/prometheus(/.*)$ {{ proxy_pass {vm}$1$is_args$args; }}
            location /insert/opentelemetry/ {{ proxy_pass {vlogs}; }}
            location /v1/traces {{ auth_basic off; proxy_pass {otlp}; }}"""
        plain = door("plain", f'auth_basic "kof"; auth_basic_user_file {passwords};' + stores)
        mesh = door("mesh", stores)
        jaeger_tls = door("jaeger-tls", f"location /collector/ {{ proxy_pass {otlp}/; }}", tls=True)
        yield Region(folder, vm, vlogs, otlp, query, auth, jaeger_tls, plain, mesh, target)
    finally:
        for server in started:
            server.stop()


def unique_word() -> str:
    """A word no other test uses, without digits: kof's severity pattern takes d1234 for a klog prefix."""
    return "m" + "".join(chr(ord("g") + int(digit, 16)) for digit in uuid.uuid4().hex[:8])


def replaced(recipe: str, folder: Path, hosts: dict[str, str]) -> Path:
    """The recipe with host names replaced and nothing else."""
    text = (CONFIGS / recipe).read_text()
    for old, new in hosts.items():
        assert old in text, f"{recipe} has no {old}"
        text = text.replace(old, new)
    out = folder / recipe
    out.write_text(text)
    return out


def machine(
    folder: Path,
    region: Region,
    *,
    tls: dict[str, str],
    grpc: int,
    http: int,
    filelog: str = "filelog/kube",
    more: dict[str, Any] | None = None,
) -> Path:
    """The third values file: this machine's log folder, ports, target, and the CAs of the endpoints with TLS."""
    node: dict[str, Any] = {
        "receivers": {
            filelog: {"include": [f"{folder}/pods/*/*/*.log"], "start_at": "beginning"},
            "otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{grpc}"}, "http": {"endpoint": f"127.0.0.1:{http}"}}},
            "hostmetrics": {"collection_interval": "2s", "initial_delay": "0s"},
            "prometheus": {
                "api_server": {"enabled": False},
                "config": {
                    "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                    "scrape_configs": [{"job_name": "node-exporter", "static_configs": [{"targets": [region.target]}]}],
                },
            },
        },
        "service": {
            "pipelines": {"metrics": {"receivers": ["otlp", "hostmetrics", "prometheus"]}},
            "telemetry": {
                "metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": free_port()}}}}]}
            },
        },
    }
    for key, value in (more or {}).items():
        node[key] = value
    out = folder / "machine.yaml"
    out.write_text(
        json.dumps({"kof": {signal: {"tls_options": {"ca_file": ca}} for signal, ca in tls.items()}, "collectors": {"node": node}})
    )
    return out


def send_with_sdk(name: str, grpc: int, http: int) -> None:
    """Traces, metrics and logs by the official SDK, over gRPC and over HTTP."""
    import logging

    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    base = f"http://127.0.0.1:{http}"
    for way, spans, metrics, logs in (
        (
            "grpc",
            GrpcSpans(f"127.0.0.1:{grpc}", insecure=True),
            GrpcMetrics(f"127.0.0.1:{grpc}", insecure=True),
            GrpcLogs(endpoint=f"127.0.0.1:{grpc}", insecure=True),
        ),
        ("http", HttpSpans(base + "/v1/traces"), HttpMetrics(base + "/v1/metrics"), HttpLogs(endpoint=base + "/v1/logs")),
    ):
        resource = Resource.create({"service.name": f"{name}-{way}", "service.instance.id": "i-1"})
        tracing = TracerProvider(resource=resource)
        tracing.add_span_processor(SimpleSpanProcessor(spans))
        with tracing.get_tracer("e2e").start_as_current_span("parent"), tracing.get_tracer("e2e").start_as_current_span("child"):
            pass
        tracing.shutdown()
        metering = MeterProvider([PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)], resource=resource)
        metering.get_meter("e2e").create_counter("e2e.orders", unit="{orders}").add(41, {"region": "eu"})
        assert metering.force_flush()
        metering.shutdown()
        logging_ = LoggerProvider(resource=resource)
        logging_.add_log_record_processor(SimpleLogRecordProcessor(logs))
        logger = logging.getLogger(f"e2e.{name}.{way}")
        logger.propagate = False
        logger.addHandler(LoggingHandler(logger_provider=logging_))
        logger.error("%s says hello over %s", name, way)
        logging_.shutdown()


def series(region: Region, query: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = get_json(region.vm + "/api/v1/query", query=query)["data"]["result"]
    return result


def log_lines(region: Region, query: str) -> list[dict[str, Any]]:
    get(region.vlogs + "/internal/force_flush")
    import urllib.parse

    text = get(region.vlogs + "/select/logsql/query?" + urllib.parse.urlencode({"query": query, "limit": 10_000}))[1].decode()
    return [json.loads(line) for line in text.splitlines()]


def traces(region: Region, service: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = get_json(region.jaeger_query + "/api/traces", service=service)["data"] or []
    return result


def run_way(
    recipe: str,
    region: Region,
    tmp_path: Path,
    hosts: dict[str, str],
    tls: dict[str, str],
    *flags: str,
    cluster: str,
    filelog: str = "filelog/kube",
) -> None:
    """Starts the agent with the recipe, sends everything, reads everything back, stops the agent."""
    mark = unique_word()
    grpc, http = free_port(), free_port()
    writer = PodWriter(tmp_path / "pods", mark, LINES)
    agent = servers.kofagent(
        tmp_path,
        "run",
        "--values",
        str(replaced(recipe, tmp_path, hosts)),
        "--values",
        str(CONFIGS / "no-cluster.yaml"),
        "--values",
        str(machine(tmp_path, region, tls=tls, grpc=grpc, http=http, filelog=filelog)),
        "--role",
        "node",
        *flags,
        env=LOGIN,
    )
    try:
        writer.start()
        send_with_sdk(mark, grpc, http)
        for flag in (["--otlp-endpoint", f"127.0.0.1:{grpc}"], ["--otlp-http", "--otlp-endpoint", f"127.0.0.1:{http}"]):
            subprocess.run(
                [
                    str(servers.find("telemetrygen")),
                    "traces",
                    "--otlp-insecure",
                    *flag,
                    "--traces",
                    "5",
                    "--service",
                    f"{mark}-gen",
                ],
                check=True,
                capture_output=True,
                timeout=60,
            )
        writer.join(60)

        for way in ("grpc", "http"):
            found = wait_until(lambda w=way: series(region, f'e2e_orders_total{{job="{mark}-{w}"}}'), what=f"SDK metric over {way}")
            assert [(s["value"][1], s["metric"]["region"]) for s in found] == [("41", "eu")]
        up = wait_until(
            lambda: series(region, f'up{{job="node-exporter",clusterName="{cluster}",instance="{region.target}"}}'),
            what="node-exporter's up",
        )
        assert up[0]["value"][1] == "1"
        assert series(region, f'node_cpu_seconds_total{{clusterName="{cluster}",cpu="0",mode="idle"}}')
        assert wait_until(lambda: series(region, "system_memory_usage_bytes"), what="host metrics")

        lines = wait_until(
            lambda: (found := log_lines(region, f'"{mark} line"')) and len(found) >= LINES and found,
            what=f"{LINES} lines of the pod",
        )
        numbers = sorted(int(line["_msg"].split(" line ")[1][:6]) for line in lines)
        assert numbers == list(range(LINES)), "every line once, none lost over the rotations"
        pods = {(line["k8s.pod.name"], line["k8s.namespace.name"], line["k8s.pod.uid"]) for line in lines}
        assert pods == {("web-0", "default", UID)}
        assert {line["severity"] for line in lines if "failed" in line["_msg"]} <= {"ERROR", "Error", "error"}
        for way in ("grpc", "http"):
            assert wait_until(lambda w=way: log_lines(region, f'"{mark} says hello over {w}"'), what="the SDK's log record")
            spans = wait_until(lambda w=way: traces(region, f"{mark}-{w}"), what="the SDK's trace")[0]["spans"]
            assert sorted(s["operationName"] for s in spans) == ["child", "parent"]
        assert wait_until(lambda: len(traces(region, f"{mark}-gen")) == 10, what="telemetrygen's traces")
    finally:
        began = time.monotonic()
        code = agent.stop()
    assert code == 0, agent.output()
    assert time.monotonic() - began < 10
    assert PASSWORD not in agent.output()
    assert base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode() not in agent.output()


def test_child_to_regional(region: Region, tmp_path: Path) -> None:
    ca = str(region.folder / "tls.crt")
    jaeger_ca = str(region.folder / "jaeger-tls" / "tls.crt")
    jaeger = {"traces": {"endpoint": region.jaeger_tls + "/collector", "tls_options": {"ca_file": jaeger_ca}}}
    host = region.vmauth.removeprefix("https://")
    overlay = tmp_path / "traces.yaml"  # 0.1.1 sends no traces; a user who sets kof.traces.endpoint has them sent
    overlay.write_text(json.dumps({"kof": jaeger}))
    run_way(
        "child-to-regional.yaml",
        region,
        tmp_path,
        {"vmauth.regional.example.com": host},
        {"logs": ca, "metrics": ca},
        "--values",
        str(overlay),
        "--generation",
        "0.1.1",
        cluster="child1",
        filelog="filelog",
    )


def test_regional_to_regional(region: Region, tmp_path: Path) -> None:
    host = region.plain.removeprefix("http://")
    run_way(
        "regional-to-regional.yaml",
        region,
        tmp_path,
        {
            "kof-storage-victoria-logs-single-server:9428": host,
            "vminsert-cluster:8480": host,
            "kof-storage-jaeger-collector:4318": host,
        },
        {},
        cluster="regional1",
    )


def test_management_to_management(region: Region, tmp_path: Path) -> None:
    host = region.plain.removeprefix("http://")
    run_way(
        "management-to-management.yaml",
        region,
        tmp_path,
        {
            "kof-storage-victoria-logs-single-server:9428": host,
            "vminsert-cluster:8480": host,
            "kof-storage-jaeger-collector:4318": host,
        },
        {},
        cluster="mothership",
    )


def test_management_to_regional(region: Region, tmp_path: Path) -> None:
    ca = str(region.folder / "tls.crt")
    run_way(
        "management-to-regional.yaml",
        region,
        tmp_path,
        {
            "vmauth.regional.example.com": region.vmauth.removeprefix("https://"),
            "jaeger.regional.example.com": region.jaeger_tls.removeprefix("https://"),
        },
        {"logs": ca, "metrics": ca, "traces": str(region.folder / "jaeger-tls" / "tls.crt")},
        cluster="mothership",
    )


def test_management_to_regional_istio(region: Region, tmp_path: Path) -> None:
    host = region.mesh.removeprefix("http://")
    run_way(
        "management-to-regional-istio.yaml",
        region,
        tmp_path,
        {"regional1-logs:9428": host, "regional1-vminsert:8480": host, "regional1-jaeger-collector:4318": host},
        {},
        cluster="mothership",
    )


@pytest.mark.server("moto")
def test_management_to_cloudwatch(region: Region, tmp_path: Path) -> None:
    import boto3

    mark = unique_word()
    aws, url = servers.moto(tmp_path)
    grpc, http = free_port(), free_port()
    writer = PodWriter(tmp_path / "pods", mark, LINES)
    more = {"exporters": {"awscloudwatchlogs": {"endpoint": url}}}
    agent = servers.kofagent(
        tmp_path,
        "run",
        "--values",
        str(CONFIGS / "management-to-cloudwatch.yaml"),
        "--values",
        str(CONFIGS / "no-cluster.yaml"),
        "--values",
        str(machine(tmp_path, region, tls={}, grpc=grpc, http=http, more=more)),
        "--role",
        "node",
        env={"CLOUDWATCH_CREDENTIALS_AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "CLOUDWATCH_CREDENTIALS_AWS_SECRET_ACCESS_KEY": PASSWORD},
    )
    client = boto3.client("logs", region_name="us-east-2", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b")

    def messages() -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = client.get_log_events(logGroupName="management", logStreamName="logs", startFromHead=True, **token)
            events += page["events"]
            if not page["events"] or page["nextForwardToken"] == token.get("nextToken"):
                return [json.loads(e["message"]) for e in events]
            token = {"nextToken": page["nextForwardToken"]}

    def of_pod() -> list[dict[str, Any]]:
        try:
            found = messages()
        except client.exceptions.ResourceNotFoundException:
            return []
        return [m for m in found if isinstance(m.get("body"), str) and m["body"].startswith(f"{mark} line")]

    try:
        writer.start()
        writer.join(60)
        wait_until(lambda: len(of_pod()) >= LINES, what="all lines in CloudWatch")
        found = of_pod()
        assert sorted(int(m["body"].split(" line ")[1][:6]) for m in found) == list(range(LINES))
        assert found[0]["resource"]["k8s.pod.name"] == "web-0"
    finally:
        code = agent.stop()
        aws.stop()
    assert code == 0, agent.output()
    assert PASSWORD not in agent.output()
