"""zpages: the pages say what runs, escape what they show, and have no secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from kofagent.component import registry
from kofagent.config.load import load_config
from kofagent.extensions.zpages import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, make, validated


class Described(FakeHost):
    def describe(self) -> Mapping[str, Any]:
        return {
            "pipelines": {"logs/<b>": {"receivers": ["otlp"], "processors": [], "exporters": ["debug", "file/x"]}},
            "extensions": ["zpages"],
        }


async def test_pages() -> None:
    host = Described()
    made = make(COMPONENT, {"endpoint": "127.0.0.1:0"}, kind="extensions", id="zpages", host=host)
    host.statuses.update({"exporter/debug": None, "exporter/file/x": "disk full: <script>"})
    host.ledger.exporter("debug", Signal.LOGS).sent(1234567)
    host.ledger.dropped("file/x", Signal.LOGS, "too old", 7)
    await made.start()
    async with aiohttp.ClientSession() as session:

        async def page(path: str, status: int = 200) -> str:
            async with session.get(made.server.url + path) as answer:
                assert answer.status == status
                return await answer.text()

        pipelines = await page("/debug/pipelinez")
        for text in (
            "logs/&lt;b&gt;",
            "debug, file/x",
            "disk full: &lt;script&gt;",
            "otelcol_exporter_sent_log_records_total",
            "<td>1234567</td>",
            "reason=too old",
            "<td>7</td>",
        ):
            assert text in pipelines, text
        assert "<script>" not in pipelines and "<b>" not in pipelines
        assert "kofagent" in await page("/debug/servicez") and "zpages" in await page("/debug/extensionz")
        assert "no spans" in await page("/debug/tracez") and "no feature gates" in await page("/debug/featurez")
        assert "/debug/pipelinez" in await page("/")
        await page("/debug/rpcz", 404)
    await made.stop()


def test_options() -> None:
    assert validated(COMPONENT, {}).endpoint == "localhost:55679"


def test_variables_of_go_are_accepted_with_a_warning(tmp_path: Path) -> None:
    """Configurations of others have them on; nothing else is wrong with those."""
    file = tmp_path / "c.yaml"
    file.write_text(
        "extensions: {zpages: {expvar: {enabled: true}}}\nreceivers: {nop: {}}\nexporters: {nop: {}}\n"
        "service: {extensions: [zpages], pipelines: {logs: {receivers: [nop], exporters: [nop]}}}\n"
    )
    [warning] = load_config([str(file)], registry).warnings
    assert "extensions.zpages.expvar: has no effect" in str(warning) and warning.warning
