"""The cases: a configuration, a load, what is counted, and the goal. CPU is of the whole process, microseconds per item."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

UID = "2ea1b0ce-52ac-4a3c-9a21-4b4c9bd0a2e4"


@dataclass
class Ports:
    """Where everything listens."""

    sink: int
    pages: int
    http: int
    grpc: int
    metrics: int


Config = Callable[[Ports, Path], dict[str, Any]]


@dataclass
class Case:
    """One benchmark; `goal` is 1.5 times the microseconds per item of the design's prototype, or of the first run without one."""

    name: str
    item: str
    goal: float
    config: Config
    load: Callable[[Ports, Path, float], int]
    """Drives the load for about the given scale and returns the number of items."""
    peers: tuple[str, ...] = ("otelcol",)
    kept: float = 1.0
    """The share of the items that is sent on."""
    warm_up: float | None = None
    """Seconds before the load, which is a span of time then: nothing is waited for behind it."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment of the agent."""


def _service(ports: Ports, pipelines: dict[str, Any]) -> dict[str, Any]:
    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": ports.metrics}}}}
    return {"pipelines": pipelines, "telemetry": {"metrics": {"readers": [reader]}, "logs": {"level": "warn"}}}


def kof_operators() -> list[dict[str, Any]]:
    """The operators of kof 0.3.0's filelog/kube, from our own default pipelines."""
    import yaml

    text = (Path(__file__).parents[1] / "pipelines" / "node.yaml").read_text()
    operators: list[dict[str, Any]] = yaml.safe_load(text)["receivers"]["filelog/kube"]["operators"]
    for operator in operators:
        operator.pop("cache", None)  # the Go collector of today refuses what the one of kof 0.3.0 ignored
    return operators


def log_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """Container logs through kof 0.3.0's operators to OTLP/HTTP."""
    return {
        "receivers": {
            "filelog/kube": {
                "include": [f"{folder}/pods/*/*/*.log"],
                "include_file_name": False,
                "include_file_path": True,
                "start_at": "beginning",
                "operators": kof_operators(),
            }
        },
        "processors": {"batch": {}},
        "exporters": {
            "otlphttp": {"logs_endpoint": f"http://127.0.0.1:{ports.sink}/insert/opentelemetry/v1/logs", "tls": {"insecure": True}}
        },
        "service": _service(ports, {"logs": {"receivers": ["filelog/kube"], "processors": ["batch"], "exporters": ["otlphttp"]}}),
    }


def log_load(ports: Ports, folder: Path, scale: float) -> int:
    """Four pods' files of containerd lines, put in place at once."""
    lines = int(100_000 * scale)
    bodies = [
        'level=info ts=2026-11-21T10:44:28.1Z caller=main.go:{i} msg="request served" path=/api/v1/items/{i} status=200',
        'I1121 10:44:28.000001       1 controller.go:{i}] "Reconciling" namespace="default" name="web-{i}"',
        '{{"level":"warn","ts":1795257868.5,"msg":"slow request","id":{i},"duration":1.25}}',
        '10.244.0.{i} - - [21/Nov/2026:10:44:28 +0000] "GET /-/ready HTTP/1.1" 200 12 "-" "kube-probe/1.34"',
        "E1121 10:44:28.000001       1 main.go:{i}] failed to sync: connection refused",
    ]
    total = 0
    for pod in range(4):
        target = folder / "pods" / f"default_web-{pod}_{UID}" / "app"
        target.mkdir(parents=True, exist_ok=True)
        hidden = target / "0.tmp"
        with hidden.open("w") as file:
            for i in range(lines):
                second, nano = divmod(i * 250_000, 1_000_000_000)
                stamp = f"2026-11-21T10:{second // 60 % 60:02d}:{second % 60:02d}.{nano:09d}Z"
                stream = "stderr" if i % 5 == 4 else "stdout"
                file.write(f"{stamp} {stream} F {bodies[i % 5].format(i=(i * 7 + pod) % 1000)}\n")
        total += lines
    for pod in range(4):
        target = folder / "pods" / f"default_web-{pod}_{UID}" / "app"
        os.rename(target / "0.tmp", target / "0.log")
    return total


def journal_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """The journal to OTLP/HTTP."""
    config = log_config(ports, folder)
    config["receivers"] = {"journald": {"directory": f"{folder}/journal", "start_at": "beginning"}}
    config["service"]["pipelines"]["logs"]["receivers"] = ["journald"]
    return config


def journal_load(ports: Ports, folder: Path, scale: float) -> int:
    """A file of a node's journal, put in place at once: entries of services, most values of which are shared."""
    from tests.support.journal_files import JournalWriter

    count = int(20_000 * scale)
    (folder / "journal").mkdir(exist_ok=True)
    writer = JournalWriter(folder / "system.tmp")
    for i in range(count):
        unit = ("kubelet", "containerd", "ssh", "cron")[i * 7 % 11 % 4]
        writer.append(
            f"MESSAGE=I1121 10:44:28.{i:06d}    1 server.go:{i % 900}] reconciled pod web-{i * 7919 % 1000003} after a change",
            f"_SOURCE_REALTIME_TIMESTAMP={1_795_257_868_000_000 + i * 1000}",
            *(f"_SYSTEMD_UNIT={unit}.service", f"_SYSTEMD_CGROUP=/system.slice/{unit}.service", "_SYSTEMD_SLICE=system.slice"),
            *(
                f"_PID={100 + i % 5}",
                f"_COMM={unit}",
                f"_EXE=/usr/bin/{unit}",
                f"_CMDLINE=/usr/bin/{unit} --config /etc/{unit}.yaml",
            ),
            *(f"SYSLOG_IDENTIFIER={unit}", "SYSLOG_FACILITY=3", "PRIORITY=6", "_UID=0", "_GID=0", "_CAP_EFFECTIVE=1ffffffffff"),
            *("_HOSTNAME=node-1", f"_MACHINE_ID={UID}", f"_BOOT_ID={UID}", "_TRANSPORT=stdout", "_RUNTIME_SCOPE=system"),
            *(
                f"_STREAM_ID={unit.encode().hex()}",
                f"_SYSTEMD_INVOCATION_ID={unit.encode().hex()}",
                "_SELINUX_CONTEXT=unconfined\n",
            ),
            *("_AUDIT_SESSION=1", "_AUDIT_LOGINUID=0"),
        )
    writer.close()
    os.rename(folder / "system.tmp", folder / "journal" / "system.journal")
    return count


def scrape_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """30 targets of 1200 series each second to remote write."""
    return {
        "receivers": {"prometheus": {"config": scrape_jobs(ports)}},
        "processors": {"batch": {}},
        "exporters": {
            "prometheusremotewrite": {"endpoint": f"http://127.0.0.1:{ports.sink}/api/v1/write", "tls": {"insecure": True}}
        },
        "service": _service(
            ports, {"metrics": {"receivers": ["prometheus"], "processors": ["batch"], "exporters": ["prometheusremotewrite"]}}
        ),
    }


def scrape_jobs(ports: Ports) -> dict[str, Any]:
    """The scrape configuration, also vmagent's."""
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "external_labels": {"clusterName": "bench"}},
        "scrape_configs": [
            {
                "job_name": f"job{j}",
                "metrics_path": f"/t{j}/metrics",
                "static_configs": [{"targets": [f"127.0.0.1:{ports.pages}"], "labels": {"node": f"n{j}"}}],
            }
            for j in range(30)
        ],
    }


def scrape_load(ports: Ports, folder: Path, scale: float) -> int:
    """Waits while pages are scraped; items are the samples served in that time."""
    url = f"http://127.0.0.1:{ports.pages}/count"
    before = int(urllib.request.urlopen(url).read())
    time.sleep(10 * scale)
    return (int(urllib.request.urlopen(url).read()) - before) * 1200


def spans_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """OTLP in, batch, OTLP/HTTP out."""
    protocols = {"http": {"endpoint": f"127.0.0.1:{ports.http}"}, "grpc": {"endpoint": f"127.0.0.1:{ports.grpc}"}}
    return {
        "receivers": {"otlp": {"protocols": protocols}},
        "processors": {"batch": {}},
        "exporters": {"otlphttp": {"endpoint": f"http://127.0.0.1:{ports.sink}", "tls": {"insecure": True}}},
        "service": _service(ports, {"traces": {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlphttp"]}}),
    }


def spans_request(spans: int = 100) -> bytes:
    """An export request of `spans` spans with six attributes each."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (("service.name", "checkout"), ("service.namespace", "shop"), ("k8s.pod.name", "web-0")):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name = "bench"
    for i in range(spans):
        span = scope.spans.add(
            trace_id=os.urandom(16),
            span_id=os.urandom(8),
            name=f"GET /items/{i}",
            kind=2,
            start_time_unix_nano=time.time_ns(),
            end_time_unix_nano=time.time_ns() + 1000,
        )
        for key, value in (
            ("http.method", "GET"),
            ("http.route", "/items/{id}"),
            ("net.peer.name", "10.0.0.1"),
            ("user", f"u{i}"),
            ("component", "proxy"),
        ):
            span.attributes.add(key=key).value.string_value = value
        span.attributes.add(key="http.status_code").value.int_value = 200
    return request.SerializeToString()


def http_load(path: str, body: Callable[[], bytes], items: int, requests: int) -> Callable[[Ports, Path, float], int]:
    """`requests` times scale POSTs of one body over 8 connections, each waiting for its answers."""

    def load(ports: Ports, folder: Path, scale: float) -> int:
        data = body()
        message = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(data)}\r\n\r\n"
        ).encode() + data
        total = int(requests * scale)
        connections = [socket.create_connection(("127.0.0.1", ports.http)) for _ in range(64)]
        sent = 0
        while sent < total:
            for connection in connections:
                connection.sendall(message)
            for connection in connections:
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(4096)
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"bench: refused: {answer[:200]!r}")
            sent += len(connections)
        for connection in connections:
            connection.close()
        return sent * items

    return load


def grpc_load(ports: Ports, folder: Path, scale: float) -> int:
    """The same spans as unary gRPC calls, 64 under way at a time."""
    import grpc

    data = spans_request()
    total = int(4000 * scale)
    with grpc.insecure_channel(f"127.0.0.1:{ports.grpc}") as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        sent = 0
        while sent < total:
            for future in [call.future(data) for _ in range(64)]:
                future.result()
            sent += 64
    return sent * 100


def points_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """OTLP metrics in, remote write out."""
    config = scrape_config(ports, folder)
    config["receivers"] = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{ports.http}"}}}}
    config["service"]["pipelines"]["metrics"]["receivers"] = ["otlp"]
    return config


def points_request() -> bytes:
    """10 metrics of 10 points with three attributes each."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    for key, value in (("service.name", "checkout"), ("service.instance.id", "i-1"), ("k8s.pod.name", "web-0")):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_metrics.add()
    for m in range(10):
        metric = scope.metrics.add(name=f"http.server.requests.{m}", unit="{requests}")
        metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
        for p in range(10):
            point = metric.sum.data_points.add(time_unix_nano=time.time_ns(), start_time_unix_nano=1, as_int=p)
            for key, value in (("http.method", "GET"), ("http.route", f"/items/{p}"), ("status", "200")):
                point.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


def log_idle_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """`log_line`'s agent on a node of 200 containers that write nothing."""
    for pod in range(200):
        target = folder / "pods" / f"default_web-{pod}_{UID}" / "app"
        target.mkdir(parents=True)
        (target / "0.log").write_text(f"2026-11-21T10:00:00.{pod:09d}Z stdout F started\n")
    return log_config(ports, folder)


def log_idle_load(ports: Ports, folder: Path, scale: float) -> int:
    """Waits; items are the polls in that time."""
    time.sleep(10 * scale)
    return int(10 * scale / 0.2)


def logs_request(records: int = 100) -> bytes:
    """An export request of log records with six attributes each; a fifth of them is of severity DEBUG."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    for key, value in (("service.name", "checkout"), ("service.namespace", "shop"), ("k8s.pod.name", "web-0")):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_logs.add()
    for i in range(records):
        record = scope.log_records.add(time_unix_nano=time.time_ns(), severity_number=5 if i % 5 == 0 else 9)
        record.body.string_value = f"GET /items/{i} took {i % 17} ms"
        for key, value in (
            ("http.method", "GET"),
            ("http.route", "/items/{id}"),
            ("net.peer.name", "10.0.0.1"),
            ("user", f"u{i}"),
            ("component", "proxy"),
            ("stream", "stdout"),
        ):
            record.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


def logs_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """OTLP logs in, batch, OTLP/HTTP out."""
    config = spans_config(ports, folder)
    config["service"]["pipelines"] = {"logs": config["service"]["pipelines"].pop("traces")}
    return config


KOF_LOGS = [
    {
        "context": "log",
        "conditions": ['attributes["log.file.path"] == "/hostfs/var/log/syslog"'],
        "statements": [
            'merge_maps(log.cache, ExtractGrokPatterns(log.body, "%{SYSLOGLINE}", false), "upsert")',
            'set(log.body, log.cache["message"])',
            'set(log.attributes["syslog.timestamp"], log.cache["timestamp"])',
            'merge_maps(log.attributes, log.cache, "upsert")',
        ],
    },
    {
        "context": "log",
        "conditions": ['IsMatch(attributes["log.file.path"], "^/var/log/kubernetes/")'],
        "statements": [
            "set(log.cache, ParseJSON(body))",
            'flatten(log.cache, prefix="audit", resolveConflicts=true) where IsMap(log.cache)',
            'merge_maps(attributes, log.cache, "upsert") where IsMap(log.cache)',
        ],
    },
    {
        "context": "log",
        "conditions": ['IsMatch(attributes["k8s.resource.name"], "events")'],
        "statements": ['merge_maps(attributes, body["object"], "upsert") where IsMap(body)'],
    },
]
KOF_METRICS = [
    {
        "context": "scope",
        "conditions": ['IsMatch(scope.name, "k8scluster")'],
        "statements": [
            'set(resource.attributes["service.name"], "k8scluster")',
            'set(resource.attributes["service.instance.id"], resource.attributes["k8s.pod.uid"])',
        ],
    },
    {
        "context": "datapoint",
        "statements": [
            'set(datapoint.cache["attrs"], resource.attributes)',
            'keep_matching_keys(datapoint.cache["attrs"], "k8s.*")',
            'merge_maps(datapoint.attributes, datapoint.cache["attrs"], "insert")',
        ],
    },
    {
        "context": "datapoint",
        "statements": ['set(datapoint.attributes["node"], resource.attributes["k8s.pod.name"])'],
    },
]
"""Statements of KOF's newer values."""


def kof_logs_request() -> bytes:
    """`logs_request` with the paths of files; one record of twenty is a line of syslog."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    request = ExportLogsServiceRequest.FromString(logs_request())
    for i, record in enumerate(request.resource_logs[0].scope_logs[0].log_records):
        syslog = i % 20 == 0
        path = "/hostfs/var/log/syslog" if syslog else "/var/log/pods/shop_web-0_1/web/0.log"
        record.attributes.add(key="log.file.path").value.string_value = path
        if syslog:
            record.body.string_value = f"Nov 30 10:00:{i % 60:02d} node-1 sshd[{i}]: session opened for user u{i}"
    return request.SerializeToString()


def metrics_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """OTLP metrics in, batch, OTLP/HTTP out."""
    config = spans_config(ports, folder)
    config["service"]["pipelines"] = {"metrics": config["service"]["pipelines"].pop("traces")}
    return config


def through(config: Config, processor: str, options: dict[str, Any]) -> Config:
    """The same with a processor before the batch."""

    def changed(ports: Ports, folder: Path) -> dict[str, Any]:
        out = config(ports, folder)
        out["processors"][processor] = options
        for pipeline in out["service"]["pipelines"].values():
            pipeline["processors"].insert(0, processor)
        return out

    return changed


def routing_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """Spans through the routing connector, by a resource attribute."""
    config = spans_config(ports, folder)
    config["connectors"] = {
        "routing": {
            "default_pipelines": ["traces/others"],
            "table": [
                {"context": "resource", "condition": 'attributes["service.name"] == "checkout"', "pipelines": ["traces/checkout"]}
            ],
        }
    }
    out = config["service"]["pipelines"].pop("traces")
    config["service"]["pipelines"] = {
        "traces": {"receivers": out["receivers"], "exporters": ["routing"]},
        "traces/checkout": {**out, "receivers": ["routing"]},
        "traces/others": {**out, "receivers": ["routing"]},
    }
    return config


def cloudwatch_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """OTLP logs to CloudWatch Logs."""
    config = logs_config(ports, folder)
    config["exporters"] = {
        "awscloudwatchlogs": {
            "region": "us-east-1",
            "log_group_name": "bench",
            "log_stream_name": "bench",
            "endpoint": f"http://127.0.0.1:{ports.sink}",
        }
    }
    config["service"]["pipelines"]["logs"]["exporters"] = ["awscloudwatchlogs"]
    return config


def host_config(ports: Ports, folder: Path) -> dict[str, Any]:
    """hostmetrics with the scraper of processes each second."""
    config = spans_config(ports, folder)
    config["receivers"] = {"hostmetrics": {"collection_interval": "1s", "scrapers": {"process": {"mute_process_all_errors": True}}}}
    config["service"]["pipelines"] = {"metrics": {**config["service"]["pipelines"]["traces"], "receivers": ["hostmetrics"]}}
    return config


def host_load(ports: Ports, folder: Path, scale: float) -> int:
    """Waits; items are the processes there are, once a second."""
    time.sleep(10 * scale)
    return int(10 * scale) * sum(name.isdecimal() for name in os.listdir("/proc"))


CASES = {
    case.name: case
    for case in (
        Case("log_line", "line", 6.0, log_config, log_load),
        Case("log_idle", "poll", 4000, log_idle_config, log_idle_load, warm_up=5),
        Case("journal_entry", "entry", 100.0, journal_config, journal_load, ()),
        Case("scrape", "sample", 1.5, scrape_config, scrape_load, ("otelcol", "vmagent"), warm_up=3),
        Case("otlp_http_span", "span", 2.7, spans_config, http_load("/v1/traces", spans_request, 100, 8000)),
        Case("otlp_grpc_span", "span", 6.5, spans_config, grpc_load),
        Case("otlp_point", "point", 3.9, points_config, http_load("/v1/metrics", points_request, 100, 4000)),
        Case(
            "otlp_attributes",
            "span",
            12.0,
            through(spans_config, "attributes", {"actions": [{"key": "environment", "value": "production", "action": "upsert"}]}),
            http_load("/v1/traces", spans_request, 100, 3000),
        ),
        Case(
            "otlp_resource",
            "span",
            3.0,
            through(spans_config, "resource", {"attributes": [{"key": "k8s.cluster.name", "value": "bench", "action": "upsert"}]}),
            http_load("/v1/traces", spans_request, 100, 8000),
        ),
        Case(
            "otlp_filter",
            "record",
            14.0,
            through(
                logs_config,
                "filter",
                {"logs": {"log_record": ["severity_number < SEVERITY_NUMBER_INFO", 'attributes["component"] == "none"']}},
            ),
            http_load("/v1/logs", logs_request, 100, 3000),
            kept=0.8,
        ),
        Case(
            "otlp_transform",
            "record",
            20.0,
            through(
                logs_config,
                "transform",
                {
                    "log_statements": [
                        {
                            "context": "log",
                            "statements": [
                                'set(attributes["level"], severity_text) where severity_number >= SEVERITY_NUMBER_INFO',
                                'delete_key(attributes, "component")',
                            ],
                        }
                    ]
                },
            ),
            http_load("/v1/logs", logs_request, 100, 3000),
        ),
        Case(
            "otlp_transform_kof",
            "record",
            8.0,
            through(logs_config, "transform", {"error_mode": "ignore", "log_statements": KOF_LOGS}),
            http_load("/v1/logs", kof_logs_request, 100, 3000),
        ),
        Case(
            "otlp_transform_points",
            "point",
            8.0,
            through(metrics_config, "transform", {"error_mode": "ignore", "metric_statements": KOF_METRICS}),
            http_load("/v1/metrics", points_request, 100, 3000),
        ),
        Case("otlp_routing", "span", 3.0, routing_config, http_load("/v1/traces", spans_request, 100, 8000)),
        Case(
            "otlp_cloudwatch",
            "record",
            18.0,
            cloudwatch_config,
            http_load("/v1/logs", logs_request, 100, 1000),
            (),
            env={"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"},
        ),
        Case("host_process", "process", 250.0, host_config, host_load, warm_up=3),
    )
}


def dump(config: dict[str, Any]) -> str:
    """A configuration as text every agent reads: JSON is YAML; `$` is doubled in names of groups by nobody, so it stays."""
    return json.dumps(config, indent=1)
