"""OTLP exemplars as those of remote write."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar

from kofagent.exporters.prometheusremotewrite.labels import attributes
from kofagent.exporters.prometheusremotewrite.names import label_name
from kofagent.telemetry.series import encode_labels, sorted_labels
from kofagent.wire import remote_write

MAX_EXEMPLAR_RUNES = 128


def exemplars(encoded: Iterable[bytes]) -> Iterable[tuple[float, bytes]]:
    """Value and `exemplars` field of each exemplar; those that cannot be decoded are left out."""
    for one in encoded:
        try:
            exemplar = Exemplar.FromString(one)
            filtered = attributes(exemplar.filtered_attributes)
        except DecodeError:
            continue
        labels = {}
        if any(exemplar.trace_id):
            labels["trace_id"] = exemplar.trace_id.hex()
        if any(exemplar.span_id):
            labels["span_id"] = exemplar.span_id.hex()
        # OpenMetrics: name and value of all labels have 128 characters at most; the ids are worth more than the rest
        runes = sum(len(k) + len(v) for group in (labels, filtered) for k, v in group.items())
        if runes <= MAX_EXEMPLAR_RUNES:
            labels = {**{name: v for k, v in filtered.items() if (name := label_name(k))}, **labels}
        value = float(exemplar.as_int if exemplar.WhichOneof("value") == "as_int" else exemplar.as_double)
        yield value, remote_write.exemplar(encode_labels(sorted_labels(labels)), value, exemplar.time_unix_nano // 1_000_000)
