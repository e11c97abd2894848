"""Runs a case of `cases/`: input through processors or the routing connector, as the Go collector did it when it was recorded."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kofagent.component import registry
from kofagent.component.protocols import Connector
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config
from kofagent.processors.transform.processor import TransformProcessor
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp, otlp_json
from tests.support.components import FakeHost, Sink, make_context

CASES = Path(__file__).with_name("cases")
_SIGNALS = {"resourceLogs": Signal.LOGS, "resourceMetrics": Signal.METRICS, "resourceSpans": Signal.TRACES}


class Different(AssertionError):
    """The case came out otherwise; the message says how."""


def all_cases() -> list[tuple[str, dict[str, Any]]]:
    """(file/name, case) of every case."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = [(path.stem, yaml.load(path.read_text(), loader)) for path in sorted(CASES.glob("*.yaml"))]
    return [(f"{stem}/{case['name']}", case) for stem, cases in files for case in cases]


def _pipelines(case: dict[str, Any]) -> set[str]:
    """The pipelines that a routing case names."""
    options = case["config"]["routing"]
    rows = {name for row in options.get("table") or () for name in row.get("pipelines") or ()}
    return rows | set(options.get("default_pipelines") or ()) | set(case.get("output") or ())


def _configuration(case: dict[str, Any], signal: Signal) -> str:
    ids = list(case["config"])
    receiver: dict[str, Any] = {"otlp": {"protocols": {"http": {"include_metadata": True}}}}
    service: dict[str, Any] = {"pipelines": {signal.value: {"receivers": ["otlp"], "processors": ids, "exporters": ["nop"]}}}
    config: dict[str, Any] = {"receivers": receiver, "processors": case["config"], "exporters": {"nop": {}}, "service": service}
    if ids == ["routing"]:
        config |= {"connectors": case["config"], "processors": {}}
        names = _pipelines(case)
        service["pipelines"] = {name: {"receivers": ["routing"], "exporters": ["nop"]} for name in names}
        for of in {signal.value, *(name.split("/")[0] for name in names)}:
            service["pipelines"][f"{of}/in"] = {"receivers": ["otlp"], "exporters": ["routing"]}
    return "yaml:" + yaml.safe_dump(config)


def run(case: dict[str, Any], *, compiled: bool = True) -> None:
    """Different where something else comes out than was recorded. Without `compiled` the evaluator does all of `transform`."""
    (root,) = case["input"]
    signal = _SIGNALS[root]
    try:
        options = _options(case, signal)
    except (ConfigErrors, ValidationError) as errors:
        if not case.get("refused"):
            raise Different(f"refused at the start: {errors}") from None
        return
    if case.get("refused"):
        raise Different(f"not refused; upstream: {case['kind']}: {case.get('message')}")
    payload = otlp_json.to_protobuf(signal.value, json.dumps(case["input"]).encode())
    headers = case.get("headers") or {}
    metadata = {name.lower(): (value,) if isinstance(value, str) else tuple(value) for name, value in headers.items()}
    batch = Batch(signal, payload, otlp.count(signal.value, payload), metadata or None)
    host, seen = FakeHost(), _Seen()
    logging.getLogger("kofagent").addHandler(seen)
    try:
        got, status = asyncio.run(_through(case, options, batch, host, compiled))
    finally:
        logging.getLogger("kofagent").removeHandler(seen)
    if status != case.get("status", 200):
        raise Different(f"status {status}, wanted {case.get('status', 200)}")
    if case.get("error_logged") and status == 200 and not seen.lines:
        raise Different("no error was logged")
    if not case.get("error_logged") and seen.lines and "routing" not in case["config"]:
        raise Different(f"logged: {seen.lines}")
    if status == 200 or case.get("output") is not None:
        _compare(case, got)


def _options(case: dict[str, Any], signal: Signal) -> dict[str, Any]:
    """The options of each component; as a whole configuration where it is refused, or has what is filled in before."""
    kind = "connectors" if "routing" in case["config"] else "processors"
    if case.get("refused") or "$" in json.dumps(case["config"]):
        return load_config([_configuration(case, signal)], registry, {"HOME": "/root"}).components[kind]
    classes = {id: registry.load(kind, id.split("/")[0]).Config for id in case["config"]}
    return {id: classes[id].model_validate(options or {}) for id, options in case["config"].items()}


class _Seen(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def _through(case: dict[str, Any], options: dict[str, Any], batch: Batch, host: FakeHost, compiled: bool) -> tuple[Any, int]:
    kind = "connectors" if "routing" in case["config"] else "processors"
    components, first = [], None
    sinks: dict[str, Sink] = {}
    for id in reversed(list(case["config"])):
        made: Any = registry.load(kind, id.split("/")[0])(options[id], make_context(kind, id, host))
        if isinstance(made, Connector):
            sinks = {name: Sink() for name in _pipelines(case)}
            made.outputs = dict(sinks)
        else:
            sinks = sinks or {"": Sink()}
            made.signal, made.next = batch.signal, first or sinks[""]
        first = made
        components.append(made)
    for each in components:
        await each.start()
        if isinstance(each, TransformProcessor) and not compiled:
            each.evaluate()
    try:
        assert first is not None
        await first.consume(batch)
        status = 200
    except Refused as refused:
        status = 400 if refused.for_clients else 503
    finally:
        for each in components:
            await each.stop()
    out = {name: _sent(batch.signal, sink) for name, sink in sinks.items()}
    return (out if kind == "connectors" else out[""]), status


def _sent(signal: Signal, sink: Sink) -> Any:
    batches = [b for b in sink.batches if isinstance(b, Batch)]
    payload = b"".join(b.payload for b in batches)
    assert sum(b.count for b in batches) == otlp.count(signal.value, payload)
    return json.loads(otlp_json.from_protobuf(signal.value, payload)) if payload else None


# Comparing


def _compare(case: dict[str, Any], got: Any) -> None:
    want = case.get("output")
    unordered = bool(case.get("unordered"))
    if "routing" in case["config"]:
        for name in sorted({*got, *want}):
            _same(_plain(want.get(name), unordered), _plain(got.get(name), unordered), name)
        return
    _same(_plain(want, unordered), _plain(got, unordered), "")


def _plain(value: Any, unordered: bool) -> Any:
    """Attributes sorted by key, defaults dropped."""
    if isinstance(value, list):
        items = [_plain(v, unordered) for v in value]
        if items and all(isinstance(v, dict) and v.keys() <= {"key", "value"} and "key" in v for v in items):
            items.sort(key=lambda v: str(v["key"]))
        return items
    if isinstance(value, dict):
        found = {}
        for key, v in value.items():
            plain = _plain(v, unordered)
            if unordered and key in ("dataPoints", "metrics"):
                plain = sorted(plain, key=lambda p: json.dumps(p, sort_keys=True))
            kept = (
                key.endswith("Value") or key in ("asInt", "asDouble") or (key in ("sum", "min", "max") and not isinstance(v, dict))
            )
            if (
                plain in ("", 0, "0", False, None, [], {})
                and not kept
                and key not in ("gauge", "histogram", "sum", "summary", "exponentialHistogram")
            ):
                continue
            found[key] = plain
        return found
    return value


def _same(want: Any, got: Any, where: str) -> None:
    if isinstance(want, dict) and isinstance(got, dict):
        for key in sorted({*want, *got}):
            _same(want.get(key), got.get(key), f"{where}.{key}")
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for i, (a, b) in enumerate(zip(want, got, strict=True)):
            _same(a, b, f"{where}[{i}]")
    elif isinstance(want, str) and want.startswith("re:"):
        if not re.fullmatch(want[3:], str(got)):
            raise Different(f"{where}: {got!r} is not {want!r}")
    elif not _equal(want, got):
        raise Different(f"{where}:\n  wanted {json.dumps(want)}\n  got    {json.dumps(got)}")


def _equal(want: Any, got: Any) -> bool:
    if isinstance(want, bool) or isinstance(got, bool) or want is None or got is None:
        return want is got
    try:
        one, two = float(want), float(got)
    except (TypeError, ValueError):
        return bool(want == got)
    if isinstance(want, str) and isinstance(got, str) and want.lstrip("-").isdigit():
        return want == got
    return math.isclose(one, two, rel_tol=1e-12, abs_tol=1e-300) or (math.isnan(one) and math.isnan(two))


def main() -> None:
    """Prints the cases that come out otherwise: `python -m tests.ottl.running [PART OF A NAME ...]`."""
    import sys

    good = bad = 0
    for name, case in all_cases():
        if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
            continue
        try:
            run(case)
            good += 1
        except Exception as error:
            bad += 1
            quirk = " (quirk)" if case.get("quirk") else ""
            print(f"{name}{quirk}: {type(error).__name__}: {error}")
    print(f"{good} equal, {bad} different")


if __name__ == "__main__":
    main()
