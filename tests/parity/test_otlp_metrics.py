"""The series of OTLP metrics are those that the Go collector was recorded to make (README.md in this folder)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.exporters.prometheusremotewrite import COMPONENT
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from tests.support.components import make
from tests.support.remote_write import Backend, is_stale

HERE = Path(__file__).parent
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "resource": {"resource_to_telemetry_conversion": {"enabled": True}, "external_labels": {"clusterName": "child1"}},
    "nosuffix": {"add_metric_suffixes": False, "target_info": {"enabled": False}},
}


@pytest.mark.parametrize("name", list(OPTIONS))
async def test_series_equal_the_recording(name: str) -> None:
    request = json_format.Parse((HERE / "otlp-metrics.json").read_text(), ExportMetricsServiceRequest())
    expected = json.loads((HERE / "otlp-metrics-expected.json").read_text())[name]
    async with Backend() as backend:
        exporter = make(COMPONENT, {"endpoint": backend.url, **OPTIONS[name]}, kind="exporters", id="prometheusremotewrite")
        await exporter.start()
        await exporter.consume(Batch(Signal.METRICS, request.SerializeToString(), 13))
        await exporter.stop()
    got = [
        {"labels": dict(labels), "samples": [["nan" if is_stale(v) else str(v), at] for v, at in samples]}
        for labels, samples in backend.samples().items()
    ]
    assert sorted(got, key=_order) == sorted(expected, key=_order)


def _order(one: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted(one["labels"].items())
