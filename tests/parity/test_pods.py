"""Log files of pods through KOF 0.3.0's operators: equal to what the Go collector makes of them (tests/parity/README.md)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.operators.chain import Chain
from tests.operators.kof_chain import KOF_OPERATORS

HERE = Path(__file__).parent


def _values(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {p["key"]: p["value"] for p in pairs}


def records(payload: bytes) -> list[dict[str, Any]]:
    """Records as pods-expected.json writes them."""
    out = []
    for group in ExportLogsServiceRequest.FromString(payload).resource_logs:
        resource = _values(MessageToDict(group.resource).get("attributes", []))
        for scope in group.scope_logs:
            for record in scope.log_records:
                assert record.observed_time_unix_nano
                item = MessageToDict(record)
                del item["observedTimeUnixNano"]
                item["attributes"] = _values(item.get("attributes", []))
                out.append({"resource": resource, **item})
    return out


def _key(record: dict[str, Any]) -> str:
    return json.dumps(record, sort_keys=True)


def run(lines_at_once: bool) -> list[dict[str, Any]]:
    lost: list[tuple[str, int]] = []
    chain = Chain(
        KOF_OPERATORS,
        dropped=lambda r, n: lost.append((r, n)),
        filtered=lambda r, n: lost.append((r, n)),
        log=logging.getLogger("test"),
    )
    out = []
    for path in sorted((HERE / "pods").glob("*/*/*.log")):
        if path.parent.name == "otc-container":
            continue
        stream = chain.open({"log.file.path": "/var/log/pods/" + str(path.relative_to(HERE / "pods"))})
        data = path.read_bytes()
        if lines_at_once:
            stream.feed_chunk(data, 1)
        else:
            for line in data.splitlines(keepends=True):
                stream.feed_chunk(line, 1)
        stream.flush(1, force=True)
        payload, count = stream.take()
        found = records(payload)
        assert len(found) == count
        out += found
    assert not lost
    return out


def expected() -> list[dict[str, Any]]:
    want = json.loads((HERE / "pods-expected.json").read_text())
    # Deliberate: Docker's parts are joined up to the newline, which is no part of the body.
    first, last = (next(r for r in want if r["body"] == {"stringValue": text}) for text in ("docker partial ", "joined warn\n"))
    want.remove(first)
    last["timeUnixNano"] = first["timeUnixNano"]
    last["body"] = {"stringValue": "docker partial joined warn"}
    for record in want:
        record["body"] = {key: text.removesuffix("\n") for key, text in record["body"].items()}
        # Deliberate: trailing blanks of partial lines are kept.
        if record["body"] == {"stringValue": "first partsecond partlast part error"}:
            record["body"] = {"stringValue": "first part second part last part error"}
    return want


@pytest.mark.parametrize("lines_at_once", [True, False])
def test_pods(lines_at_once: bool) -> None:
    assert sorted(run(lines_at_once), key=_key) == sorted(expected(), key=_key)
