"""A creator between an API server with pods, their files, and a sink; with the configuration that KOF's charts render."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from kofagent.component.observing import Endpoint, Telling, Told, Wanted
from kofagent.component.protocols import ColumnsConsumer
from kofagent.extensions.k8s_observer import COMPONENT as K8sObserver
from kofagent.kubernetes.resources import PODS
from kofagent.receivers.receiver_creator import COMPONENT as ReceiverCreator
from kofagent.telemetry.signal import Signal
from tests.receivers.filelog.support import Store
from tests.support.components import FakeHost, Sink, make
from tests.support.fake_kube import FakeKube, pod

KOF = yaml.safe_load(
    r"""
discovery: {enabled: true}
watch_observers: [k8s_observer]
receivers:
  filelog:
    rule: type == "pod.container"
    config:
      exclude: []
      include: ['DIRECTORY/`pod.namespace`_`pod.name`_`pod.uid`/`container_name`/*.log']
      include_file_name: false
      include_file_path: true
      operators:
      - {id: container-parser, max_log_size: 102400, type: container}
      - id: extract_log_level
        on_error: send_quiet
        parse_from: body
        regex: (?i)(?P<log_level>(panic|fatal|crit|alert|emerg|err(?:or)?|warn(?:ing)?|info|debug|notice|trace|(?-i:[EFDWI]\d{4}\s+)))
        type: regex_parser
      - {id: extract_short_letter, if: '("log_level" in attributes)', on_error: send_quiet,
         parse_from: 'attributes["log_level"]', regex: '(?i)(?P<log_level>[EFDWI])\d{4}', type: regex_parser}
      - {field: attributes.log_level, if: '!("log_level" in attributes)', type: add, value: info}
      - mapping:
          error: [error, err, failed, E]
          info: [info, notice, trace, I]
        overwrite_text: true
        parse_from: attributes.log_level
        preset: none
        type: severity_parser
      - {field: attributes.log_level, type: remove}
      retry_on_failure: {enabled: true}
      storage: file_storage/filelogreceiver
"""
)
"""What KOF 1.4 and later render for the daemon, with fewer severities, on files in a directory of the test."""
FAST = {
    "kofagent.receivers.receiver_creator.children.QUIET_SECONDS": 0.3,
    "kofagent.extensions.k8s_observer.watching.LOOK_SECONDS": 0.05,
}
"""Times of the product that tests shorten, seconds."""


def placed(value: Any, directory: Path) -> Any:
    """Options with the directory of the test in them."""
    if isinstance(value, str):
        return value.replace("DIRECTORY", str(directory))
    if isinstance(value, dict):
        return {key: placed(each, directory) for key, each in value.items()}
    return [placed(each, directory) for each in value] if isinstance(value, list) else value


class Heard:
    """What an observer told: the endpoints as they are now, and the order of what happened."""

    def __init__(self) -> None:
        self.now: dict[str, Endpoint] = {}
        self.events: list[tuple[str, str]] = []

    def __call__(self, id: str, endpoint: Endpoint | None) -> None:
        self.events.append((id, "gone" if endpoint is None else "changed" if id in self.now else "came"))
        if endpoint is None:
            del self.now[id]
        else:
            self.now[id] = endpoint


class Observed:
    """An observer whose endpoints are those that a test says."""

    types = frozenset({"hostport", "port", "pod", "pod.container"})

    def __init__(self) -> None:
        self.telling: list[tuple[Wanted, Telling]] = []

    def observe(self, wanted: Wanted, told: Told) -> Any:
        import asyncio

        self.telling.append((wanted, Telling(told)))

        class Observation:
            synced = asyncio.Event()

            async def stop(self) -> None: ...

        Observation.synced.set()
        return Observation()

    def set(self, *endpoints: Endpoint, files: bool = False) -> None:
        """These are all."""
        for wanted, telling in self.telling:
            if wanted.files == files:
                telling.set("", [each for each in endpoints if each.type in wanted.types])


class World:
    """One run of the creator. The store, the files and the API server may be those of an earlier one."""

    def __init__(self, directory: Path, store: Store | None = None, sink: Sink | None = None, **changes: Any) -> None:
        self.directory = directory
        self.sink = sink or Sink()
        self.store = store or Store()
        observer_options = {"observe_pods": True, "log_directory": str(directory)} | changes.pop("observer", {})
        self.host = FakeHost({"file_storage/filelogreceiver": self.store})
        self.observer = make(K8sObserver, observer_options, kind="extension", id="k8s_observer", host=self.host)
        self.host.extensions["k8s_observer"] = self.observer
        options = placed({**KOF, **changes}, directory)
        options["receivers"] = {key: with_fast_polls(block) for key, block in options["receivers"].items()}
        self.creator = make(ReceiverCreator, options, kind="receiver", id="receiver_creator", host=self.host)
        self.outputs: Mapping[Signal, ColumnsConsumer] = {Signal.LOGS: self.sink}

    async def __aenter__(self) -> World:
        self.creator.outputs = dict(self.outputs)
        await self.observer.start()
        await self.creator.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.creator.stop()
        await self.observer.stop()

    def names(self) -> list[str]:
        """The receivers that there are, by name and endpoint."""
        return sorted(child.part for child in self.creator._all())

    def running(self) -> list[str]:
        return sorted(child.part for child in self.creator._all() if child.runs)

    def bodies(self) -> list[str]:
        """What came of all files, in order."""
        return [record.body.string_value for _, record in self.records()]

    def records(self) -> list[tuple[dict[str, str], Any]]:
        """Resource attributes and record."""
        data = LogsData.FromString(self.sink.payload(Signal.LOGS))
        return [
            ({a.key: a.value.string_value for a in rl.resource.attributes}, record)
            for rl in data.resource_logs
            for sl in rl.scope_logs
            for record in sl.log_records
        ]


def with_fast_polls(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "config": {**block["config"], "poll_interval": "10ms"}} if "include" in block.get("config", {}) else block


def write(directory: Path, name: str, lines: Iterable[str], *, uid: str, container: str = "app", file: str = "0.log") -> None:
    """Lines of a container, as containerd writes them."""
    folder = directory / f"shop_{name}_{uid}" / container
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / file).open("a") as out:
        out.writelines(f"2026-01-02T03:04:05.000000000Z stdout F {line}\n" for line in lines)


def container_status(name: str, state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "containerID": f"containerd://id-of-{name}", "restartCount": 0, "state": state, **more}


RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-01-02T03:04:05Z"}}


def ended(at: str = "2026-01-02T03:04:05Z", code: int = 0) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "finishedAt": at}}


def put(kube: FakeKube, name: str, uid: str, *, status: dict[str, Any] | None = None, **more: Any) -> None:
    """A pod of the namespace shop."""
    obj = pod("shop", name, uid=uid, **more)
    obj["status"].update(status or {})
    kube.put(PODS, obj)
