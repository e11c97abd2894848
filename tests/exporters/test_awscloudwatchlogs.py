"""awscloudwatchlogs against moto's server: what is stored is read back with boto3. A proxy injects throttling and faults."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import ClientSession, web
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from pydantic import ValidationError

from kofagent.exporters.awscloudwatchlogs import COMPONENT, events
from kofagent.exporters.awscloudwatchlogs.api import Rejected, _put_body, endpoint
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.reference import cloudwatch
from tests.support import otlp, servers
from tests.support.components import FakeHost, make

GROUP, STREAM = "kof/test", "node-1"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "verysecretvalue",
    "AWS_EC2_METADATA_DISABLED": "true",
}
FAST = {"initial_interval": "10ms", "max_interval": "50ms", "max_elapsed_time": "20s"}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, url = servers.moto(tmp_path_factory.mktemp("moto"))
    yield url
    server.stop()


@pytest.fixture
def logs(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    urllib.request.urlopen(urllib.request.Request(moto + "/moto-api/reset", method="POST")).read()
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return boto3.client("logs", endpoint_url=moto, region_name="eu-west-1")


class Proxy:
    """Passes calls on to moto; `script` answers some of them itself: a function of the operation giving a response or None."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Any] = []
        self.script: Any = lambda operation: None
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].split(".")[-1]
        self.calls.append(operation)
        self.headers.append(request.headers)
        body = await request.read()
        self.bodies.append(json.loads(body))
        answer = self.script(operation)
        if answer is not None:
            return answer
        keep = {k: v for k, v in request.headers.items() if k.lower() not in ("content-length",)}
        async with ClientSession() as session, session.post(self.target, data=body, headers=keep) as response:
            return web.Response(status=response.status, body=await response.read())


@pytest.fixture
async def proxy(moto: str, logs: Any) -> AsyncIterator[Proxy]:
    made = Proxy(moto)
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def error(code: str, status: int = 400, message: str = "m") -> web.Response:
    return web.json_response({"__type": code, "message": message}, status=status, content_type="application/x-amz-json-1.1")


async def exporter(url: str, **options: Any) -> Any:
    made = make(
        COMPONENT,
        {
            "log_group_name": GROUP,
            "log_stream_name": STREAM,
            "region": "eu-west-1",
            "endpoint": url,
            "retry_on_failure": FAST,
            **options,
        },
        kind="exporters",
        id="awscloudwatchlogs",
        host=FakeHost(),
    )
    await made.start()
    return made


def batch(*bodies: str, at: list[int] | None = None) -> Batch:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    now = time.time_ns()
    for i, body in enumerate(bodies):
        scope.log_records.add(time_unix_nano=at[i] if at else now + i * 1_000_000).body.string_value = body
    return Batch(Signal.LOGS, request.SerializeToString(), len(bodies))


def stored(logs: Any, group: str = GROUP, stream: str = STREAM) -> list[dict[str, Any]]:
    return logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]


def total(made: Any, name: str, **labels: str) -> float:
    return made.context.ledger.total(name, **labels)


def sent(made: Any) -> float:
    return total(made, "otelcol_exporter_sent_log_records_total", exporter="awscloudwatchlogs")


def dropped(made: Any, reason: str) -> float:
    return total(made, "kofagent_dropped_items_total", component="awscloudwatchlogs", signal="logs", reason=reason)


def full_record() -> tuple[ExportLogsServiceRequest, Any]:
    request = ExportLogsServiceRequest()
    entry = request.resource_logs.add()
    entry.resource.attributes.add(key="k8s.pod.name").value.string_value = "web-0"
    entry.resource.attributes.add(key="host").value.string_value = "n1"
    scope = entry.scope_logs.add()
    scope.scope.name, scope.scope.version = "lib", "1.0"
    scope.scope.attributes.add(key="s").value.int_value = 1
    record = scope.log_records.add(
        time_unix_nano=time.time_ns(),
        severity_number=9,
        severity_text="INFO",
        flags=1,
        dropped_attributes_count=2,
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
    )
    record.body.string_value = '10.244.0.1 - - [10/Apr/2025 17:18:55] "GET /-/ready HTTP/1.1 200 -'
    record.attributes.add(key="n").value.double_value = 1.5
    record.attributes.add(key="b").value.bytes_value = b"\x00\xff"
    nested = record.attributes.add(key="m").value.kvlist_value.values.add(key="list").value.array_value
    nested.values.add(bool_value=True)
    nested.values.add()
    return request, record


async def test_the_message_is_upstreams(logs: Any, moto: str) -> None:
    request, record = full_record()
    made = await exporter(moto)
    await made.consume(Batch(Signal.LOGS, request.SerializeToString(), 1))
    await made.stop()
    [event] = stored(logs)
    assert json.loads(event["message"]) == {
        "body": '10.244.0.1 - - [10/Apr/2025 17:18:55] "GET /-/ready HTTP/1.1 200 -',
        "severity_number": 9,
        "severity_text": "INFO",
        "dropped_attributes_count": 2,
        "flags": 1,
        "trace_id": "000102030405060708090a0b0c0d0e0f",
        "span_id": "0001020304050607",
        "attributes": {"n": 1.5, "b": "AP8=", "m": {"list": [True, None]}},
        "scope": {"name": "lib", "version": "1.0", "attributes": {"s": 1}},
        "resource": {"k8s.pod.name": "web-0", "host": "n1"},
    }
    assert list(json.loads(event["message"])) == [
        "body",
        "severity_number",
        "severity_text",
        "dropped_attributes_count",
        "flags",
        "trace_id",
        "span_id",
        "attributes",
        "scope",
        "resource",
    ]
    assert event["timestamp"] == record.time_unix_nano // 1_000_000
    assert sent(made) == 1


def message(change: Any) -> Any:
    request = ExportLogsServiceRequest()
    change(request.resource_logs.add().scope_logs.add().log_records.add())
    return json.loads(events.build(request.SerializeToString(), ("g", "s"), False, 1).events[0].message)


@given(otlp.requests("logs"))
def test_messages_equal_the_plain_twins(request: Any) -> None:
    payload = request.SerializeToString()
    built = events.build(payload, ("g", "s"), False, 42)
    assert [(e.timestamp, json.loads(e.message)) for e in built.events] == cloudwatch.messages(payload, 42)
    for event in built.events:
        assert event.size == len(event.message.encode())
        for part in ("attributes", "resource"):
            keys = list(json.loads(event.message).get(part, {}))
            assert keys == sorted(keys)
    call = events.Call(("g", "s"), built.events)
    assert json.loads(_put_body(call)) == {
        "logGroupName": "g",
        "logStreamName": "s",
        "logEvents": [{"timestamp": e.timestamp, "message": e.message} for e in built.events],
    }


def test_what_is_left_out() -> None:
    assert message(lambda r: None) == {}
    assert message(lambda r: r.body.SetInParent()) == {}
    assert message(lambda r: setattr(r.body, "string_value", "")) == {"body": ""}
    assert message(lambda r: setattr(r.body, "int_value", 0)) == {"body": 0}
    assert message(lambda r: setattr(r.body, "double_value", float("nan"))) == {"body": "NaN"}
    assert message(lambda r: r.body.kvlist_value.values.add(key="a")) == {"body": {"a": None}}
    assert message(lambda r: setattr(r, "trace_id", bytes(16))) == {}


def test_time_is_the_records_or_observed_or_now() -> None:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.log_records.add(time_unix_nano=5_999_999, observed_time_unix_nano=7_000_000)
    scope.log_records.add(observed_time_unix_nano=7_000_000)
    scope.log_records.add()
    assert [e.timestamp for e in events.build(request.SerializeToString(), ("g", "s"), False, 42).events] == [5, 7, 42]


def test_text_that_is_not_utf8() -> None:
    payload = batch("ab").payload.replace(b"ab", b"a\xff")
    [event] = events.build(payload, ("g", "s"), False, 1).events
    assert json.loads(event.message) == {"body": "a\ufffd"}
    with pytest.raises(ValueError):
        events.build(b"\x0a\x05x", ("g", "s"), False, 1)


async def test_group_and_stream_are_made_with_retention_and_tags(logs: Any, proxy: Proxy) -> None:
    made = await exporter(proxy.url, log_retention=7, tags={"team": "kof", "empty": None})
    await made.consume(batch("one"))
    await made.consume(batch("two"))
    [group] = logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]
    assert group["retentionInDays"] == 7
    assert logs.list_tags_log_group(logGroupName=GROUP)["tags"] == {"team": "kof", "empty": ""}
    assert proxy.calls == [
        "PutLogEvents",
        "CreateLogStream",
        "CreateLogGroup",
        "PutRetentionPolicy",
        "CreateLogStream",
        "PutLogEvents",
        "PutLogEvents",
    ]
    logs.delete_log_stream(logGroupName=GROUP, logStreamName=STREAM)
    await made.consume(batch("three"))
    logs.delete_log_group(logGroupName=GROUP)
    await made.consume(batch("four"))
    await made.stop()
    assert [json.loads(e["message"])["body"] for e in stored(logs)] == ["four"]
    assert sent(made) == 4


async def test_the_retention_of_a_group_that_is_there_stays(logs: Any, proxy: Proxy) -> None:
    logs.create_log_group(logGroupName=GROUP)
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=30)
    first = iter([error("ResourceNotFoundException")])  # somebody else makes the group after the exporter found it missing
    proxy.script = lambda operation: next(first, None) if operation == "CreateLogStream" else None
    made = await exporter(proxy.url, log_retention=7)
    await made.consume(batch("one"))
    await made.stop()
    [group] = logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]
    assert group["retentionInDays"] == 30 and "CreateLogGroup" in proxy.calls
    assert sent(made) == 1


async def test_events_are_sorted_and_equal_times_keep_their_order(logs: Any, moto: str) -> None:
    now = time.time_ns() // 10**9 * 10**9
    made = await exporter(moto)
    await made.consume(batch("c", "a", "b1", "b2", at=[now - 1_000_000, now - 9_000_000, now - 5_000_000, now - 5_000_000]))
    await made.stop()
    assert [json.loads(e["message"])["body"] for e in stored(logs)] == ["a", "b1", "b2", "c"]


async def test_raw_log_and_embedded_metrics(logs: Any, moto: str) -> None:
    emf = json.dumps({"_aws": {"logGroupName": "metrics", "logStreamName": "m1"}, "x": 1})
    old = json.dumps({"log_group_name": "old", "x": 1})
    made = await exporter(moto, raw_log=True)
    await made.consume(batch("plain", emf, old, "", '{"log_group_name": 5}'))
    await made.stop()
    assert [e["message"] for e in stored(logs)] == ["plain", '{"log_group_name": 5}']
    assert [e["message"] for e in stored(logs, "metrics", "m1")] == [emf]
    assert [e["message"] for e in stored(logs, "old", STREAM)] == [old]
    assert (sent(made), dropped(made, "empty message")) == (4, 1)


async def test_throttling_is_retried(logs: Any, proxy: Proxy) -> None:
    answers = [
        error("ThrottlingException"),
        error("ServiceUnavailableException", 503),
        error("com.amazonaws#ThrottlingException"),
        error("", 500),
        error("LimitExceededException"),
    ]
    proxy.script = lambda operation: answers.pop(0) if answers and operation == "PutLogEvents" else None
    made = await exporter(proxy.url, max_retries=1)
    await made.consume(batch("one"))
    await made.stop()
    assert [json.loads(e["message"])["body"] for e in stored(logs)] == ["one"]
    assert sent(made) == 1 and not answers


async def test_throttled_for_good_gives_the_data_back(proxy: Proxy) -> None:
    proxy.script = lambda operation: error("ThrottlingException")
    made = await exporter(proxy.url, max_retries=0, retry_on_failure={"enabled": False})
    with pytest.raises(Refused) as refused:
        await made.consume(batch("one"))
    assert refused.value.reason == "throttled" and not refused.value.permanent
    await made.stop()


async def test_an_invalid_request_is_dropped_and_counted(proxy: Proxy) -> None:
    proxy.script = lambda operation: error("InvalidParameterException")
    made = await exporter(proxy.url)
    with pytest.raises(Refused) as refused:
        await made.consume(batch("one", "two"))
    await made.stop()
    assert refused.value.permanent
    assert (sent(made), dropped(made, "rejected"), len(proxy.calls)) == (0, 2, 3), "for one of them, perhaps"


@pytest.mark.parametrize(
    "refusal", [web.Response(status=413), error("InvalidParameterException", message="Upload too large: exceeds limit of 1048576")]
)
async def test_a_call_that_is_too_large_is_made_again_in_halves(proxy: Proxy, logs: Any, refusal: web.Response) -> None:
    texts = [f"{n} " + "x" * 100 for n in range(200)] + ["y" * 30_000] + [str(n) for n in range(200, 300)]

    def script(operation: str) -> web.Response | None:
        large = operation == "PutLogEvents" and len(json.dumps(proxy.bodies[-1])) > 10_000
        return web.Response(status=refusal.status, body=refusal.body, headers=refusal.headers) if large else None

    proxy.script = script
    made = await exporter(proxy.url, raw_log=True)
    await made.consume(batch(*texts))
    await made.stop()
    assert [event["message"] for event in stored(logs)] == [text for text in texts if text[0] != "y"]
    assert sent(made) == 300
    assert dropped(made, "http 413" if refusal.status == 413 else "rejected") == 1


async def test_denied_access_waits_and_shows_no_secret(proxy: Proxy, caplog: pytest.LogCaptureFixture, logs: Any) -> None:
    answers = [error("AccessDeniedException"), error("ExpiredTokenException"), error("UnrecognizedClientException")]
    proxy.script = lambda operation: answers.pop(0) if answers else None
    made = await exporter(proxy.url)
    with caplog.at_level(logging.DEBUG):
        await made.consume(batch("one"))
    await made.stop()
    assert sent(made) == 1
    assert "AccessDenied" in caplog.text
    for value in KEYS.values():
        if value != "true":
            assert value not in caplog.text and value not in repr(made.context.host.statuses)


async def test_refused_credentials_are_read_again(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logs: Any) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"

    def write(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\n")

    def script(operation: str) -> web.Response | None:
        if "AKIAFIRST" not in proxy.headers[-1]["Authorization"]:
            return None
        write("AKIASECOND")
        return error("UnrecognizedClientException")

    write("AKIAFIRST")
    proxy.script = script
    made = await exporter(proxy.url, shared_credentials_file=[str(file)])
    await made.consume(batch("one"))
    await made.stop()
    assert sent(made) == 1
    assert "AKIAFIRST" in proxy.headers[0]["Authorization"] and "AKIASECOND" in proxy.headers[-1]["Authorization"]


async def test_calls_are_signed(proxy: Proxy) -> None:
    made = await exporter(proxy.url)
    await made.consume(batch("one"))
    await made.stop()
    header = proxy.headers[0]["Authorization"]
    assert header.startswith("AWS4-HMAC-SHA256 Credential=AKIATESTTESTTESTTEST/") and "/eu-west-1/logs/aws4_request" in header
    assert proxy.headers[0]["Content-Type"] == "application/x-amz-json-1.1"


async def test_without_credentials_the_data_waits(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logs: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    made = await exporter(moto, shared_credentials_file=[str(file)], retry_on_failure={"enabled": False})
    with pytest.raises(Refused, match="no AWS credentials"):
        await made.consume(batch("one"))
    file.write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    await made.consume(batch("one"))
    await made.stop()
    assert len(stored(logs)) == 1


async def test_role_is_assumed(moto: str, logs: Any, monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    made = await exporter(proxy.url, role_arn="arn:aws:iam::123456789012:role/logs", external_id="abc")
    await made.consume(batch("one"))
    await made.stop()
    assert sent(made) == 1
    assert "Credential=AKIATEST" not in proxy.headers[0]["Authorization"] and "X-Amz-Security-Token" in proxy.headers[0]


async def test_web_identity(moto: str, logs: Any, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, tmp_path: Path) -> None:
    """IAM roles for service accounts, as on EKS."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("a.b.c")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/logs")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
    made = await exporter(proxy.url)
    await made.consume(batch("one"))
    await made.stop()
    assert sent(made) == 1 and "X-Amz-Security-Token" in proxy.headers[0]


async def test_container_credentials_are_refreshed(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    """The container endpoint (ECS, EKS pod identity); credentials about to expire are fetched anew."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    asked = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.headers["Authorization"])
        return web.json_response(
            {
                "AccessKeyId": f"AKIA{len(asked)}",
                "SecretAccessKey": "s",
                "Token": "t",
                "Expiration": (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{runner.addresses[0][1]}/creds")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in")
    made = await exporter(proxy.url)
    await made.consume(batch("one"))
    await made.consume(batch("two"))
    await made.stop()
    await runner.cleanup()
    assert sent(made) == 2 and len(asked) > 1 and set(asked) == {"let me in"}
    keys = [h["Authorization"].split("Credential=")[1].split("/")[0] for h in proxy.headers]
    assert keys[0] != keys[-1]


async def test_too_old_and_too_new_are_counted(logs: Any, moto: str) -> None:
    now = time.time_ns()
    day = 86400 * 10**9
    made = await exporter(moto)
    await made.consume(batch("old", "ok", "new", at=[now - 15 * day, now, now + 3 * 3600 * 10**9]))
    await made.stop()
    assert [json.loads(e["message"])["body"] for e in stored(logs)] == ["ok"]
    assert (sent(made), dropped(made, "too old"), dropped(made, "too new")) == (1, 1, 1)


async def test_what_the_service_rejects_is_counted(proxy: Proxy) -> None:
    info = {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 3, "tooNewLogEventStartIndex": 4}
    proxy.script = lambda operation: web.json_response({"rejectedLogEventsInfo": info})
    made = await exporter(proxy.url)
    await made.consume(batch(*"abcde"))
    await made.stop()
    assert (sent(made), dropped(made, "too old"), dropped(made, "expired"), dropped(made, "too new")) == (1, 1, 2, 1)


def test_rejected_info_out_of_range() -> None:
    assert Rejected({"tooOldLogEventEndIndex": 99, "tooNewLogEventStartIndex": -5}, 3).by_reason() == (
        ("too old", 3),
        ("expired", 0),
        ("too new", 3),
    )
    assert sum(n for _, n in Rejected({}, 3).by_reason()) == 0


async def test_a_batch_of_several_calls_goes_on_where_it_failed(logs: Any, proxy: Proxy) -> None:
    now = time.time_ns()
    count = 12_000
    failures = [None, None, error("ThrottlingException"), None]
    puts = []

    def script(operation: str) -> Any:
        if operation != "PutLogEvents":
            return None
        puts.append(len(proxy.bodies[-1]["logEvents"]))
        return failures.pop(0) if failures else None

    proxy.script = script
    made = await exporter(proxy.url, max_retries=0)
    await made.consume(batch(*map(str, range(count)), at=[now + i * 1000 for i in range(count)]))
    await made.stop()
    # the first finds no group; the second takes 10 000; the third is throttled and only that one is sent again
    assert puts == [10_000, 10_000, 2_000, 2_000]
    assert sent(made) == count


async def test_calls_span_at_most_a_day(logs: Any, proxy: Proxy) -> None:
    now, hour = time.time_ns(), 3600 * 10**9
    made = await exporter(proxy.url)
    await made.consume(batch("a", "b", "c", at=[now - 50 * hour, now - 26 * hour, now]))
    await made.stop()
    sizes = [len(b["logEvents"]) for c, b in zip(proxy.calls, proxy.bodies, strict=True) if c == "PutLogEvents"]
    assert sizes[-2:] == [2, 1] and sent(made) == 3


@given(st.lists(st.tuples(st.integers(0, 3 * 86400 * 1000), st.integers(1, 400_000)), max_size=30))
def test_calls_keep_the_limits(items: list[tuple[int, int]]) -> None:
    given_events = [events.Event(at, "x", size, ("g", str(size % 2))) for at, size in items]
    calls = list(events.plan(given_events))
    assert sorted(e for c in calls for e in c.events) == sorted(given_events)
    for call in calls:
        times = [e.timestamp for e in call.events]
        assert times == sorted(times) and times[-1] - times[0] <= 86400 * 1000
        assert sum(e.size + 26 for e in call.events) <= 1024 * 1024
        assert {e.stream for e in call.events} == {call.stream}


@pytest.mark.parametrize("body", ["x" * 3000, '"\\\n' * 900, "\u00e9" * 1500, "\x00" * 2000])
def test_a_long_text_is_cut_and_the_json_stays_whole(body: str) -> None:
    built = events.build(batch(body).payload, ("g", "s"), False, 1, limit=1000)
    [event] = built.events
    assert built.truncated == 1 and event.size == len(event.message.encode()) <= 1000
    text = json.loads(event.message)["body"]
    assert text.endswith("[Truncated...]") and body.startswith(text.removesuffix("[Truncated...]"))
    assert event.size > 700


def test_the_size_of_an_event_is_an_option() -> None:
    def limit(**options: Any) -> int:
        made = make(COMPONENT, {"region": "r", "log_group_name": "g", "log_stream_name": "s", **options}, kind="exporters")
        return max(c.size for c in made._calls(batch("x" * 2_000_000), lambda reason, count: None))

    assert limit() == limit(max_event_payload_bytes=1 << 20) == 1 << 20
    assert limit(max_event_payload_bytes=256 << 10) == 256 << 10
    assert limit(max_event_payload_bytes=100) == 100
    for wrong in (-1, 40, (1 << 20) + 1):
        with pytest.raises(ValidationError, match="max_event_payload_bytes"):
            limit(max_event_payload_bytes=wrong)


def test_a_long_record_without_text_is_cut_as_upstream_does() -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.attributes.add(key="a").value.string_value = "y" * 5000
    built = events.build(request.SerializeToString(), ("g", "s"), False, 1, limit=1000)
    assert built.events[0].message.endswith("[Truncated...]") and built.events[0].size == 1000
    raw = events.build(batch("z" * 5000).payload, ("g", "s"), True, 1, limit=1000).events[0].message
    assert raw == "z" * 986 + "[Truncated...]"


async def test_an_event_of_a_megabyte_arrives(logs: Any, proxy: Proxy) -> None:
    made = await exporter(proxy.url)
    await made.consume(batch("x" * 2_000_000))
    await made.stop()
    assert total(made, "kofagent_truncated_items_total", component="awscloudwatchlogs", signal="logs") == 1
    size = len(proxy.bodies[-1]["logEvents"][0]["message"].encode())
    assert size + 26 <= 1024 * 1024 and size > 1024 * 1024 - 200


async def test_a_connection_that_breaks_is_retried(logs: Any, proxy: Proxy) -> None:
    broken = [True, True]

    def script(operation: str) -> Any:
        if broken:
            broken.pop()
            raise ConnectionResetError
        return None

    proxy.script = script
    made = await exporter(proxy.url)
    await asyncio.wait_for(made.consume(batch("one")), 20)
    await made.stop()
    assert sent(made) == 1


async def test_tls(proxy: Proxy, tmp_path: Path, logs: Any) -> None:
    cert, key = servers.certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    app = web.Application()
    app.router.add_post("/", proxy.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    for options in ({"certificate_file_path": str(cert)}, {"no_verify_ssl": True}):
        made = await exporter(url, **options)
        await made.consume(batch("one"))
        await made.stop()
    made = await exporter(url, retry_on_failure={"enabled": False})
    with pytest.raises(Refused) as refused:
        await made.consume(batch("two"))
    assert refused.value.reason == "tls"
    await made.stop()
    await runner.cleanup()
    assert len(stored(logs)) == 2


def test_endpoints() -> None:
    assert endpoint("", "eu-west-1") == "https://logs.eu-west-1.amazonaws.com/"
    assert endpoint("", "cn-north-1") == "https://logs.cn-north-1.amazonaws.com.cn/"
    assert endpoint("logs.us-east-1.amazonaws.com", "x") == "https://logs.us-east-1.amazonaws.com/"
    assert endpoint("http://127.0.0.1:5", "x") == "http://127.0.0.1:5/"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Field required"),
        ({"log_retention": 8}, "the nearest is 7"),
        ({"tags": {"": "x"}}, "1 to 128"),
        ({"tags": {f"k{i}": "" for i in range(51)}}, "at most 50"),
        ({"log_group_name": "a b"}, "a group name may contain"),
        ({"log_stream_name": "a:b"}, "must not contain"),
        ({"log_group_name": ""}, "at least 1 character"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    given_options = {"log_group_name": "g", "log_stream_name": "s", **options} if options else {}
    with pytest.raises(ValidationError, match=message):
        make(COMPONENT, given_options, kind="exporters")
