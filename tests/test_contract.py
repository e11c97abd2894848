"""What every registered component promises, checked for each of them from the registry: no list of components is kept here.

`OPTIONS` has the least options of those that cannot do without; 127.0.0.1:1 is the backend that is not there, TMP a folder.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData, ResourceLogs
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from pydantic import BaseModel, ValidationError

from kofagent.component import registry
from kofagent.component.checkpoints import StorageExtension
from kofagent.component.observing import Observer
from kofagent.component.protocols import (
    ClientAuth,
    Connector,
    Exporter,
    Extension,
    LeaderElector,
    Processor,
    Receiver,
    ServerAuth,
    StartError,
)
from kofagent.component.queue_storage import QueueStorage
from kofagent.config.base import ROLES
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config
from kofagent.operators.catalog import OPERATORS
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, Sink, make

BASES = {"receivers": Receiver, "processors": Processor, "exporters": Exporter, "connectors": Connector, "extensions": Extension}

OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("receivers", "otlp"): {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": "127.0.0.1:0"}}},
    ("receivers", "filelog"): {"include": ["/nonexistent/*.log"]},
    ("receivers", "prometheus"): {
        "config": {"scrape_configs": [{"job_name": "a", "static_configs": [{"targets": ["127.0.0.1:1"]}]}]}
    },
    ("receivers", "hostmetrics"): {"scrapers": {"load": {}}},
    ("processors", "memory_limiter"): {"check_interval": "1s", "limit_mib": 1 << 20},
    ("processors", "resource"): {"attributes": [{"key": "a", "value": "b", "action": "upsert"}]},
    ("processors", "attributes"): {"actions": [{"key": "a", "value": "b", "action": "upsert"}]},
    ("processors", "filter"): {"logs": {"exclude": {"match_type": "strict", "bodies": ["x"]}}},
    ("processors", "resourcedetection"): {"detectors": ["env"]},
    ("processors", "k8sattributes"): {"auth_type": "none"},
    ("processors", "tail_sampling"): {"policies": [{"name": "all", "type": "always_sample"}], "decision_wait": "1ms"},
    ("processors", "probabilistic_sampler"): {"sampling_percentage": 100, "fail_closed": False},
    ("exporters", "prometheusremotewrite"): {"endpoint": "http://127.0.0.1:1/api/v1/write"},
    ("exporters", "otlphttp"): {"endpoint": "http://127.0.0.1:1"},
    ("exporters", "otlp"): {"endpoint": "127.0.0.1:1", "tls": {"insecure": True}},
    ("exporters", "awscloudwatchlogs"): {
        "log_group_name": "g",
        "log_stream_name": "s",
        "region": "eu-west-1",
        "endpoint": "http://127.0.0.1:1",
    },
    ("exporters", "file"): {"path": "TMP/out.json"},
    ("connectors", "routing"): {
        "default_pipelines": ["logs"],
        "table": [{"condition": 'attributes["a"] == "b"', "pipelines": ["logs"]}],
    },
    ("receivers", "jaeger"): {
        "protocols": {name: {"endpoint": "127.0.0.1:0"} for name in ("grpc", "thrift_http", "thrift_compact", "thrift_binary")}
    },
    ("receivers", "zipkin"): {"endpoint": "127.0.0.1:0"},
    ("receivers", "k8s_cluster"): {"auth_type": "none"},
    ("receivers", "k8s_events"): {"auth_type": "none"},
    ("receivers", "k8sobjects"): {"auth_type": "none", "objects": [{"name": "pods"}, {"name": "events", "mode": "watch"}]},
    ("receivers", "kubeletstats"): {"auth_type": "none", "endpoint": "127.0.0.1:1"},
    ("receivers", "httpcheck"): {"targets": [{"endpoint": "http://127.0.0.1:1"}]},
    ("receivers", "postgresql"): {"endpoint": "127.0.0.1:1", "username": "u", "password": "p"},
    ("receivers", "receiver_creator"): {"receivers": {"nop": {"rule": 'type == "hostport"'}}},
    ("extensions", "k8s_observer"): {"auth_type": "none"},
    ("extensions", "basicauth"): {"client_auth": {"username": "u", "password": "p"}},
    ("extensions", "bearertokenauth"): {"token": "t"},
    ("extensions", "oauth2client"): {"client_id": "i", "client_secret": "s", "token_url": "http://127.0.0.1:1"},
    ("extensions", "headers_setter"): {"headers": [{"key": "a", "value": "b"}]},
    ("extensions", "health_check"): {"endpoint": "127.0.0.1:0"},
    ("extensions", "zpages"): {"endpoint": "127.0.0.1:0"},
    ("extensions", "file_storage"): {"directory": "TMP"},
    ("extensions", "k8s_leader_elector"): {"auth_type": "none", "lease_name": "l", "lease_namespace": "n"},
}
READS_KUBERNETES = {"k8s_cluster", "k8s_events", "k8sobjects", "k8sattributes", "k8s_leader_elector", "k8s_observer"}
"""Start with an API server that cannot be reached (`no_cluster` is where they look for it), and not without any."""
ALL = [(kind, type) for kind, types in registry.TYPES.items() for type in types]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")


def options(kind: str, type: str, folder: Path) -> dict[str, Any]:
    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("TMP", str(folder))
        if isinstance(value, dict):
            return {k: fill(v) for k, v in value.items()}
        return [fill(v) for v in value] if isinstance(value, list) else value

    filled: dict[str, Any] = fill(OPTIONS.get((kind, type), {}))
    suffice(kind, type, filled)
    return filled


def suffice(kind: str, type: str, given: dict[str, Any]) -> None:
    """Fails with what to do where options are missing that the component cannot do without."""
    try:
        registry.load(kind, type).Config.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the options'}: {each['msg']}" for each in error.errors())
        pytest.fail(f"OPTIONS in tests/test_contract.py has no valid options for ({kind!r}, {type!r}): {wrong}")


def build(kind: str, type: str, folder: Path, host: FakeHost, sink: Sink) -> Any:
    cls = registry.load(kind, type)
    component = make(cls, options(kind, type, folder), kind=kind[:-1], id=type, host=host)
    if isinstance(component, Receiver):
        component.outputs = dict.fromkeys(cls.signals, sink)
    elif isinstance(component, Processor):
        component.signal = sorted(cls.signals, key=lambda s: s.value)[0]
        component.next = sink
    elif isinstance(component, Connector):
        component.outputs = {"logs": sink}
    return component


@pytest.mark.parametrize("kind, type", ALL)
def test_declares_itself(kind: str, type: str) -> None:
    cls = registry.load(kind, type)
    assert issubclass(cls, BASES[kind])
    module = inspect.getmodule(cls)
    assert module is not None
    package = __import__(f"kofagent.{kind}.{type}", fromlist=["x"])
    assert (package.__doc__ or "").strip(), "the module says what it promises"
    assert cls.signals, "it has at least one signal"


@pytest.mark.parametrize("kind, type", ALL)
def test_the_first_line_is_the_one_of_the_reference(kind: str, type: str) -> None:
    """The type and what it does, in a sentence: the index of the reference is made of these lines."""
    first = (importlib.import_module(f"kofagent.{kind}.{type}").__doc__ or "").split("\n", 1)[0]
    assert first.startswith(f"`{type}`: "), first
    assert first.endswith("."), "the sentence fits into the line"


def fields_without_words(model: type[BaseModel], seen: set[type[BaseModel]], path: str = "") -> list[str]:
    if model in seen:
        return []
    seen.add(model)
    out = []
    for name, field in model.model_fields.items():
        if not field.description:
            out.append(f"{path}{name}")
        for inner in inspect_models(field.annotation):
            out += fields_without_words(inner, seen, f"{path}{name}.")
    return out


def inspect_models(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in getattr(annotation, "__args__", ()) for m in inspect_models(a)]


@pytest.mark.parametrize("kind, type", ALL)
def test_every_option_is_described(kind: str, type: str) -> None:
    config = registry.load(kind, type).Config
    assert not fields_without_words(config, set())


@pytest.mark.parametrize("type", sorted(OPERATORS))
def test_every_option_of_an_operator_is_described(type: str) -> None:
    assert not fields_without_words(OPERATORS[type].Config, set())


@pytest.mark.parametrize("kind, type", ALL)
def test_unknown_options_are_refused(kind: str, type: str, tmp_path: Path) -> None:
    config = registry.load(kind, type).Config
    with pytest.raises(ValidationError):
        config.model_validate({**options(kind, type, tmp_path), "no_such_option": 1})


@pytest.mark.parametrize(
    "type", [t for t in registry.TYPES["exporters"] if "endpoint" in registry.load("exporters", t).Config.model_fields]
)
def test_an_exporter_that_does_not_know_where_to_send_is_refused(type: str) -> None:
    """Not at the first batch: `validate` says so."""
    with pytest.raises(ValidationError, match=r"endpoint|log_group_name"):
        registry.load("exporters", type).Config.model_validate({})


@pytest.mark.parametrize("kind, type", ALL)
async def test_lifecycle(kind: str, type: str, tmp_path: Path) -> None:
    host, sink = FakeHost(), Sink()
    unused = build(kind, type, tmp_path, host, sink)
    await unused.stop()  # without start
    before = asyncio.all_tasks()
    component = build(kind, type, tmp_path, host, sink)
    async with asyncio.timeout(20):
        await component.start()
    async with asyncio.timeout(20):
        await component.stop()
        await component.stop()  # again
    await asyncio.sleep(0)
    left = {t for t in asyncio.all_tasks() - before if not t.done()}
    assert not left, f"tasks that outlive stop: {left}"
    assert host.reserved == 0, "bytes of the budget were not given back"


@pytest.mark.parametrize("kind, type", [(k, t) for k, t in ALL if t in READS_KUBERNETES])
async def test_says_what_to_do_without_a_cluster(kind: str, type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    component = build(kind, type, tmp_path, FakeHost(), Sink())
    with pytest.raises(StartError, match="no-cluster"):
        await component.start()
    await component.stop()


@pytest.mark.parametrize("kind, type", [(k, t) for k, t in ALL if k == "processors"])
async def test_processors_pass_refusals_up_and_never_answer_early(kind: str, type: str, tmp_path: Path) -> None:
    host, sink = FakeHost(), Sink()
    sink.refuse = Refused("sending queue full", retry_after=7)
    component = build(kind, type, tmp_path, host, sink)
    if component.owns:
        return  # tests/test_ledger_pipeline.py holds what it does then
    await component.start()
    with pytest.raises(Refused) as error:
        async with asyncio.timeout(20):
            await component.consume(Batch(component.signal, a_log() if component.signal is Signal.LOGS else b"", 1))
    assert error.value.retry_after == 7
    assert not error.value.permanent
    assert host.ledger.sum("kofagent_dropped_items_total") == 0, "what goes back to the caller is not dropped"
    await component.stop()


def a_log() -> bytes:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1).body.string_value = "hello"
    return request.SerializeToString()


@pytest.mark.parametrize("kind, type", ALL)
def test_aliases_lead_to_registered_types(kind: str, type: str) -> None:
    assert registry.resolve(kind, type) == type
    for other, name in registry.ALIASES[kind].items():
        assert name in registry.TYPES[kind], other
        assert other not in registry.TYPES[kind], f"{other} is both a type and an alias"


def test_nothing_heavy_is_imported_before_a_configuration_names_it() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import kofagent.cli.main, kofagent.component.registry; "
        "print(sorted(m for m in ('grpc', 'botocore', 'psutil', 'kubernetes', 'bcrypt') if m in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.parametrize("kind, type", ALL)
def test_a_folder_has_its_parts_where_everybody_looks_for_them(kind: str, type: str) -> None:
    """A folder: `__init__` (docstring, COMPONENT), `config.py` (Config), `receiver.py` and so on (the class). Else one file with all."""
    cls = registry.load(kind, type)
    package = importlib.import_module(f"kofagent.{kind}.{type}")
    if hasattr(package, "__path__"):
        assert cls.__module__ == f"kofagent.{kind}.{type}.{kind.removesuffix('s')}"
        assert cls.Config.__module__ == f"kofagent.{kind}.{type}.config"
    else:
        assert cls.__module__ == cls.Config.__module__ == package.__name__
    assert cls.Config.__name__ == "Config"


@pytest.mark.parametrize("kind", registry.TYPES)
def test_every_component_that_is_there_is_registered(kind: str) -> None:
    room = Path(registry.__file__).parents[1] / kind
    there = {path.stem for path in room.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} - {"__init__"}
    assert there == set(registry.TYPES[kind]), "add it to TYPES in kofagent/component/registry.py"


def test_what_a_component_or_its_options_lack_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(OPTIONS, ("exporters", "file"))
    with pytest.raises(pytest.fail.Exception, match=r"no valid options for \('exporters', 'file'\): path: Field required"):
        options("exporters", "file", tmp_path)
    registry.load("exporters", "nop")
    monkeypatch.delattr("kofagent.exporters.nop.COMPONENT")
    with pytest.raises(ImportError, match="end it with: COMPONENT = TheClass"):
        registry.load("exporters", "nop")


def test_an_extension_that_cannot_do_what_it_is_named_for_is_found_before_it_runs() -> None:
    text = """
receivers:
  otlp: {protocols: {http: {auth: {authenticator: headers_setter}}}}
  filelog: {include: [/x], storage: basicauth}
exporters:
  otlphttp: {endpoint: "http://h:1", auth: {authenticator: file_storage}, sending_queue: {storage: zpages}}
extensions:
  headers_setter: {headers: [{key: a, value: b}]}
  basicauth: {client_auth: {username: u, password: p}}
  file_storage: {directory: /x}
  zpages: {}
service:
  extensions: [headers_setter, basicauth, file_storage, zpages]
  pipelines: {logs: {receivers: [otlp, filelog], exporters: [otlphttp]}}
"""
    with pytest.raises(ConfigErrors) as caught:
        load_config(["yaml:" + text], registry)
    assert [(error.place.line, error.message) for error in caught.value.errors] == [
        (3, "the extension 'headers_setter' cannot check requests to a server"),
        (4, "the extension 'basicauth' cannot store data"),
        (6, "the extension 'file_storage' cannot sign requests of a client"),
        (6, "the extension 'zpages' cannot store queues"),
    ]
    protocols = (ClientAuth, ServerAuth, StorageExtension, QueueStorage, LeaderElector, Observer)
    assert [role.method in vars(protocol) for role, protocol in zip(ROLES, protocols, strict=True)] == [True] * len(ROLES)


AT_ONCE = {"k8sattributes", "memory_limiter", "resource", "resourcedetection"}
"""Processors whose work depends on the resources of a batch, not on its records."""


@pytest.mark.parametrize("type", sorted(set(registry.TYPES["processors"]) - AT_ONCE))
@pytest.mark.parametrize("signal", [Signal.LOGS, Signal.TRACES])
async def test_others_have_their_turn_while_a_processor_works_on_very_many_items(
    type: str, signal: Signal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofagent.component.mapping.PIECE", 50)
    monkeypatch.setattr("kofagent.component.turns.HOLD_SECONDS", 0.0)
    for of in ("groupbyattrs", "tail_sampling.processor"):
        monkeypatch.setattr(f"kofagent.processors.{of}.PIECE", 50)
    if signal not in registry.load("processors", type).signals:
        return
    made = build("processors", type, tmp_path, FakeHost(), Sink())
    made.signal = signal
    await made.start()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    field = "log_records" if signal is Signal.LOGS else "spans"
    data = LogsData() if signal is Signal.LOGS else TracesData()
    resource = data.resource_logs.add() if isinstance(data, LogsData) else data.resource_spans.add()
    scope = resource.scope_logs.add() if isinstance(resource, ResourceLogs) else resource.scope_spans.add()
    for n in range(500):
        record = getattr(scope, field).add(trace_id=n.to_bytes(16, "big"), span_id=b"12345678")
        record.attributes.add(key="a").value.string_value = str(n)
    await made.consume(Batch(signal, data.SerializeToString(), 500))
    task.cancel()
    await made.stop()
    assert turns >= 5
