"""KOF 0.3.0's filelog/kube over the recorded pods: the records the Go collector makes (tests/parity/README.md)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kofagent.telemetry.signal import Signal
from tests.operators.kof_chain import KOF_OPERATORS
from tests.parity.test_pods import HERE, _key, expected, records
from tests.receivers.filelog.support import Tailing


@pytest.mark.parametrize("step", [None, 100])
async def test_pods_read_from_files(tmp_path: Path, step: int | None) -> None:
    options = {
        "include": [f"{tmp_path}/*/*/*.log"],
        "exclude": [f"{tmp_path}/*/otc-container/*.log"],
        "include_file_name": False,
        "include_file_path": True,
        "operators": KOF_OPERATORS,
    }
    async with Tailing(options) as t:
        if step is None:
            shutil.copytree(HERE / "pods", tmp_path, dirs_exist_ok=True)
            await t.poll()
        else:  # grows while it is read
            for path in sorted((HERE / "pods").glob("*/*/*.log")):
                data = path.read_bytes()
                target = tmp_path / path.relative_to(HERE / "pods")
                target.parent.mkdir(parents=True)
                for at in range(0, len(data), step):
                    with target.open("ab") as file:
                        file.write(data[at : at + step])
                    await t.poll(0.01)
    got = records(t.sink.payload(Signal.LOGS))
    for record in got:
        path = record["attributes"]["log.file.path"]
        path["stringValue"] = path["stringValue"].replace(str(tmp_path), "/var/log/pods")
    assert sorted(got, key=_key) == sorted(expected(), key=_key)
