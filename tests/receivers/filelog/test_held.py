"""Nothing of what was read is held once it was handed over, whatever the operators said about it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from tests.receivers.filelog.support import Tailing

LINE = "2024-04-13T07:59:37.505201169Z stdout F {} " + "held-or-not " * 20


def holders() -> list[str]:
    """Objects that refer to large texts with the mark in them."""
    found = []
    gc.collect()
    for one in gc.get_objects():
        for text in gc.get_referents(one):
            if isinstance(text, bytes) and len(text) > 20_000 and b"held-or-not" in text:
                found.append(f"{type(one).__name__} {getattr(one, 'f_code', '')}")
    return found


@pytest.mark.parametrize(
    "operators",
    [
        [],
        [{"type": "container"}],
        [{"type": "container", "add_metadata_from_filepath": False}],
        [{"type": "json_parser"}],
        [{"type": "regex_parser", "regex": "(?P<a>never)"}],
    ],
    ids=["none", "no path of a pod", "container", "no JSON", "no match"],
)
async def test_what_was_read_is_not_held(operators: list[dict[str, Any]], tmp_path: Path) -> None:
    async with Tailing({"include": [f"{tmp_path}/*.log"], "include_file_path": True, "operators": operators}) as t:
        (tmp_path / "a.log").write_text("".join(f"{LINE.format(n)}\n" for n in range(100)))
        assert len(await t.poll()) == 100
        await t.poll()
        t.sink.batches.clear()
        await t.poll()
        assert holders() == []
