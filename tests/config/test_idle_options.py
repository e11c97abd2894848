"""Options that can never take effect are warned of when a configuration is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from kofagent.component import registry
from kofagent.config.load import load_config

CONFIG = """
extensions: {file_storage: {directory: TMP}}
receivers: {filelog: {include: [/x.log], retry_on_failure: {RETRY}}}
exporters:
  otlphttp: {EXPORTER}
  file: {path: TMP/a.*.json, group_by: {GROUPS}}
service: {extensions: [file_storage], pipelines: {logs: {receivers: [filelog], exporters: [otlphttp, file]}}}
"""
FINE = {
    "RETRY": "enabled: true, max_interval: 1s",
    "EXPORTER": "endpoint: 'http://h'",
    "GROUPS": "enabled: true, max_open_files: 5",
}


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({}, ""),
        ({"RETRY": "max_interval: 1s"}, "receivers.filelog.retry_on_failure.max_interval"),
        ({"RETRY": "enabled: false, max_interval: 1s"}, ""),  # who wrote this knows it
        ({"GROUPS": "max_open_files: 5"}, "exporters.file.group_by.max_open_files"),
        ({"EXPORTER": "endpoint: 'https://h', tls: {insecure: true}"}, "exporters.otlphttp.tls.insecure"),
        ({"EXPORTER": "endpoint: 'http://h', tls: {insecure: true}"}, ""),
        ({"EXPORTER": "endpoint: 'http://h', tls: {ca_file: /ca.pem}"}, "exporters.otlphttp.tls.ca_file"),
        ({"EXPORTER": "endpoint: 'https://h', tls: {insecure_skip_verify: true}"}, ""),
        (
            {"EXPORTER": "endpoint: 'http://h', sending_queue: {enabled: false, storage: file_storage}"},
            "exporters.otlphttp.sending_queue.storage",
        ),
    ],
)
def test_what_cannot_take_effect_is_warned_of(tmp_path: Path, changed: dict[str, str], path: str) -> None:
    text = CONFIG
    for name, value in {**FINE, **changed}.items():
        text = text.replace(f"{{{name}}}", f"{{{value}}}")
    file = tmp_path / "c.yaml"
    file.write_text(text.replace("TMP", str(tmp_path)))
    warnings = load_config([str(file)], registry).warnings
    assert [str(w).split(": ")[1] for w in warnings] == ([path] if path else [])
    assert all("has no effect" in str(w) and w.warning for w in warnings)
