"""Reading files: where it starts, what becomes an entry, what is said of the file."""

from __future__ import annotations

from pathlib import Path

from tests.receivers.filelog.support import Tailing, attributes


async def test_lines_become_records_with_the_name_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")
    async with Tailing({"include": [f"{tmp_path}/*.log"]}) as t:
        assert await t.poll() == ["one", "two"]
        assert [attributes(r) for r in t.records()] == [{"log.file.name": "a.log"}] * 2
        assert t.host.ledger.total("otelcol_receiver_accepted_log_records_total", receiver="filelog", transport="") == 2
